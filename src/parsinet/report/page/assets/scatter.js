/* What several runs traded: test error against what it costs; a grey line joins those that no other run beats. */

const COSTS = {
  parameters: ["parameters", (run) => run.size.parameters, count],
  macs: ["MACs per example", (run) => run.size.macs, count],
  seconds: ["seconds of training", (run) => run.seconds, duration],
};

function scatter(runs, by, chooser) {
  const [title, cost, form] = COSTS[by];
  const shown = runs.filter((run) => run.test_error !== null && cost(run) !== null);
  if (shown.length < 2) return null;
  const words = shown.map((run) => `${run.name}: ${errorRate(run.test_error)} at ${form(cost(run))}`).join("; ");
  const heading = `Test error against ${title}`;
  const drawing = el("div", { class: "drawing", role: "img", "aria-label": `${heading}. ${words}.` });
  const host = el("figure", { class: "card chart wide" }, el("figcaption", {}, heading), chooser, drawing);
  host.redraw = () => drawing.replaceChildren(scattered(shown, cost, form, title, drawing));
  return host;
}

function scattered(shown, cost, form, title, drawing) {
  const width = Math.max(260, drawing.clientWidth);
  const height = width < 420 ? 260 : 320;
  const box = { left: 54, right: width - 14, top: 14, bottom: height - 40 };
  const [costs, errors] = [shown.map(cost), shown.map((run) => run.test_error)];
  const wide = Math.max(...costs) > 8 * Math.min(...costs) && Math.min(...costs) > 0;
  const [low, high] = wide ? [Math.min(...costs) / 1.4, Math.max(...costs) * 1.8] : [0, Math.max(...costs) * 1.2 || 1];
  const x = scale(low, high, box.left, box.right, wide);
  const tall = Math.max(...errors) > 8 * Math.min(...errors) && Math.min(...errors) > 0;
  const [least, most] = limits(errors, tall);
  const y = scale(least, most, box.bottom, box.top, tall);
  const up = tall ? logTicks(least, most) : ticks(0, most, 5);
  const page = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  const across = wide ? logTicks(low, high) : ticks(0, high, width < 420 ? 4 : 7);
  page.append(...grid({ tick: shortShare, xTitle: title }, box, x, y, across, up));
  page.append(svg("path", { class: "front", d: front(shown, cost, x, y) }));
  page.append(...labelled(shown, [title, cost, form], x, y, box));
  return page;
}

/** The staircase of runs that none beats in both. */
function front(shown, cost, x, y) {
  let best = Infinity;
  let text = "";
  for (const run of [...shown].sort((a, b) => cost(a) - cost(b) || a.test_error - b.test_error)) {
    if (run.test_error >= best) continue;
    best = run.test_error;
    text += text ? `H${x(cost(run))}V${y(best)}` : `M${x(cost(run))} ${y(best)}`;
  }
  return text;
}

/** Points with their names beside them; a name that would lie on another moves down, and is left out where there is no room. */
function labelled(shown, [title, cost, form], x, y, box) {
  const taken = shown.map((run) => [x(cost(run)) - 6, y(run.test_error) - 6, x(cost(run)) + 6, y(run.test_error) + 6]);
  const free = ([a, b, c, d]) => d < box.bottom && b > box.top - 8 && !taken.some(([e, f, g, h]) => a < g && c > e && b < h && d > f);
  return shown.flatMap((run) => {
    const [px, py] = [x(cost(run)), y(run.test_error)];
    const words = cut(run.name, 22);
    const long = words.length * 7;
    const right = px + 10 + long < box.right;
    const [from, to] = right ? [px + 9, px + 9 + long] : [px - 9 - long, px - 9];
    const spot = [0, 15, -15, 30, -30].map((shift) => [from, py + shift - 8, to, py + shift + 7]).find(free);
    if (spot) taken.push(spot);
    const dot = svg("circle", { cx: px, cy: py, r: 5.5, class: "point", style: `fill:${lookOf(run)}` });
    const rows = [[lookOf(run), "test error", errorRate(run.test_error)], [null, title, form(cost(run))]];
    dot.addEventListener("pointermove", (event) => tip.show(event.clientX, event.clientY, run.name, rows));
    dot.addEventListener("pointerleave", () => tip.hide());
    if (!spot) return [dot];
    const beside = { x: right ? px + 10 : px - 10, y: (spot[1] + spot[3]) / 2 + 4, "text-anchor": right ? "start" : "end" };
    return [dot, svg("text", { class: "name halo", ...beside }, words)];
  });
}
