/* A chart of lines with a cross-hair that pointer and arrow keys move, and its numbers as a table below.

spec: title, clock ("epoch" or "seconds"), xTitle, lines (name, colour, dash, x, y, stairs, faint, and at: {x, y}, the values the
cross-hair tells), points (name, colour, x, y), mark ({x, words} or null), logarithmic, form (value → words), tick (value → words),
reach (least upper limit). */

const DASHES = ["", "7 4", "2 3", "9 4 2 4"];

function lineChart(spec) {
  const lines = spec.lines.filter((line) => line.y.some((value) => value !== null));
  if (!lines.length) return null;
  const host = el("figure", { class: "card chart" });
  const drawing = el("div", { class: "drawing", tabindex: "0", role: "img", "aria-label": spoken(spec, lines) });
  const legend = lines.length + spec.points.length > 1 ? el("div", { class: "legend" }, ...keys(lines), ...pointKeys(spec.points)) : null;
  host.append(el("figcaption", {}, spec.title), ...(legend ? [legend] : []), drawing, numbersOf(spec, lines));
  host.redraw = () => drawing.replaceChildren(drawn(spec, lines, drawing));
  return host;
}

/** What the drawing shows, in a sentence. */
function spoken(spec, lines) {
  const told = lines.slice(0, 8).map((line) => {
    const values = line.y.filter((value) => value !== null);
    return `${line.name} from ${spec.form(values[0])} to ${spec.form(values[values.length - 1])}`;
  });
  return `${spec.title} over ${spec.xTitle}: ${told.join("; ")}. Arrow keys read single values.`;
}

const fill = (one) => ({ style: `fill:${one.colour}` });
const stroke = (line) => ({
  class: line.faint ? "line faint" : "line",
  style: `stroke:${line.colour}`,
  "stroke-dasharray": DASHES[line.dash] || null,
});
const diamond = (x, y) => `M${x} ${y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z`;
const sign = (width, drawing, name) => el("span", {}, svg("svg", { width, height: 12, "aria-hidden": "true" }, drawing), name);
const keys = (lines) => lines.map((line) => sign(22, svg("line", { x1: 0, x2: 22, y1: 6, y2: 6, ...stroke(line) }), line.name));
const pointKeys = (points) => points.map((point) => sign(12, svg("path", { d: diamond(6, 6), ...fill(point) }), point.name));

function drawn(spec, lines, drawing) {
  const width = Math.max(260, drawing.clientWidth);
  const height = width < 420 ? 190 : 230;
  const values = [...lines.flatMap((line) => line.y), ...spec.points.map((point) => point.y)].filter((value) => value !== null);
  const [low, high] = limits(values, spec.logarithmic);
  const box = { left: 50, right: width - 14, top: spec.mark ? 24 : 10, bottom: height - 38 };
  const end = Math.max(...lines.map((line) => line.x[line.x.length - 1]), ...spec.points.map((point) => point.x)) || 1;
  const x = scale(0, end, box.left, box.right);
  const y = scale(low, Math.max(high, spec.reach || 0), box.bottom, box.top, spec.logarithmic);
  const page = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  const up = spec.logarithmic ? logTicks(low, high) : ticks(low, Math.max(high, spec.reach || 0), 5);
  const few = width < 420;
  const across = spec.clock === "epoch" ? wholeTicks(end, few ? 4 : 7) : ticks(0, end, few ? 4 : 6);
  page.append(...grid(spec, box, x, y, across, up));
  for (const line of lines) page.append(svg("path", { d: path(line, x, y), ...stroke(line) }));
  if (spec.mark) page.append(...marked(spec.mark, x, box));
  const single = lines.filter((line) => line.y.length === 1 && line.y[0] !== null);
  for (const line of single) page.append(svg("circle", { cx: x(line.x[0]), cy: y(line.y[0]), r: 3.5, ...fill(line) }));
  for (const point of spec.points) page.append(svg("path", { d: diamond(x(point.x), y(point.y)), class: "point", ...fill(point) }));
  listen(spec, lines, drawing, page, { x, y, box, width });
  return page;
}

/** Lines and words of both axes at the given ticks. */
function grid(spec, box, x, y, across, up) {
  const found = [];
  for (const value of up) {
    found.push(svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y(value), y2: y(value) }));
    found.push(svg("text", { class: "tick", x: box.left - 8, y: y(value) + 4, "text-anchor": "end" }, spec.tick(value)));
  }
  for (const value of across) {
    found.push(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: box.bottom, y2: box.bottom + 4 }));
    found.push(svg("text", { class: "tick", x: x(value), y: box.bottom + 17, "text-anchor": "middle" }, short(value)));
  }
  found.push(svg("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  found.push(svg("text", { class: "tick", x: box.right, y: box.bottom + 33, "text-anchor": "end" }, spec.xTitle));
  return found;
}

function marked(mark, x, box) {
  const right = x(mark.x) > (box.left + box.right) / 2;
  const beside = { x: x(mark.x) + (right ? -6 : 6), y: box.top - 8, "text-anchor": right ? "end" : "start" };
  const words = svg("text", { class: "tick halo", ...beside }, mark.words);
  return [svg("line", { class: "mark", x1: x(mark.x), x2: x(mark.x), y1: box.top - 16, y2: box.bottom }), words];
}

function path(line, x, y) {
  let text = "";
  let last = null;
  line.y.forEach((value, place) => {
    if (value === null) return void (last = null);
    const [a, b] = [x(line.x[place]).toFixed(1), y(value).toFixed(1)];
    text += last === null ? `M${a} ${b}` : line.stairs ? `H${a}V${b}` : `L${a} ${b}`;
    last = value;
  });
  return text;
}

/** Value of a line at a place: that of the last time not after it; null before the first and after the last. */
function valueAt(line, at) {
  if (at > line.at.x[line.at.x.length - 1] + 1e-9) return null;
  let found = null;
  line.at.x.forEach((time, place) => {
    if (time <= at + 1e-9) found = line.at.y[place];
  });
  return found;
}

const timesOf = (lines) => [...new Set(lines.flatMap((line) => line.at.x))].sort((a, b) => a - b);
const timeWords = (spec, time) => (spec.clock === "epoch" ? `epoch ${fixed(time, 0)}` : duration(time));

function listen(spec, lines, drawing, page, { x, y, box, width }) {
  const times = timesOf(lines);
  const hair = svg("g", { class: "hair" });
  page.append(hair);
  let place = times.length;
  const leave = () => {
    hair.replaceChildren();
    tip.hide();
  };
  const show = (spot, clientY, aloud) => {
    place = spot;
    const time = times[place];
    const rows = lines.map((line) => [line, valueAt(line, time)]).filter(([, value]) => value !== null);
    const dots = rows.map(([line, value]) => svg("circle", { cx: x(time), cy: y(value), r: 4, ...fill(line) }));
    hair.replaceChildren(svg("line", { x1: x(time), x2: x(time), y1: box.top, y2: box.bottom }), ...dots);
    const frame = page.getBoundingClientRect();
    const told = rows.map(([line, value]) => [line.colour, line.name, spec.form(value)]);
    tip.show(frame.left + (x(time) * frame.width) / width, clientY ?? frame.top + frame.height / 2, timeWords(spec, time), told);
    if (aloud) say(`${timeWords(spec, time)}: ${told.map(([, name, value]) => `${name} ${value}`).join(", ")}`);
  };
  const point = (event) => {
    const frame = page.getBoundingClientRect();
    const at = ((event.clientX - frame.left) * width) / frame.width;
    show(nearest(times, (time) => Math.abs(x(time) - at)), event.clientY, false);
  };
  page.addEventListener("pointermove", point);
  page.addEventListener("pointerdown", point);
  page.addEventListener("pointerleave", leave);
  drawing.onblur = leave;
  drawing.onkeydown = (event) => {
    const go = { ArrowLeft: place - 1, ArrowRight: place === times.length ? 0 : place + 1, Home: 0, End: times.length - 1 }[event.key];
    if (event.key === "Escape") leave();
    if (go === undefined) return;
    event.preventDefault();
    show(Math.max(0, Math.min(times.length - 1, go)), null, true);
  };
}

function nearest(list, distance) {
  let best = 0;
  list.forEach((one, place) => {
    if (distance(one) < distance(list[best])) best = place;
  });
  return best;
}

/** The numbers as a table, made when it is opened. */
function numbersOf(spec, lines) {
  const details = el("details", { class: "numbers" }, el("summary", {}, "Numbers"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const head = el("tr", {}, ...[spec.xTitle, ...lines.map((line) => line.name)].map((word) => el("th", { scope: "col" }, word)));
    const body = timesOf(lines).map((time) => {
      const cells = lines.map((line) => el("td", {}, spec.form(valueAt(line, time))));
      return el("tr", {}, el("th", { scope: "row" }, spec.clock === "epoch" ? fixed(time, 0) : duration(time)), ...cells);
    });
    const table = el("table", {}, el("caption", {}, spec.title), el("thead", {}, head), el("tbody", {}, ...body));
    details.append(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Numbers: ${spec.title}` }, table));
  });
  return details;
}
