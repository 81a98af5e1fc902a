/* The network from input to output, one bar per group of units: as wide as it was before training in outline, as wide as it is filled. */

const slid = new Map();
/* Run → the moment its slider shows; what stands on the last one stays there while a live run goes on. */

function networkDrawing(run, place) {
  const { groups, moments } = run.network;
  if (!groups.length) return el("p", { class: "soft" }, "The record names no groups of units.");
  const last = moments.length - 1;
  const start = Math.min(slid.get(place) ?? last, last);
  const picture = el("div", { class: "drawing" });
  const told = el("output", { class: "told", for: `moment-${place}` });
  const range = { type: "range", id: `moment-${place}`, min: 0, max: last, step: 1 };
  const slider = el("input", { ...range, "aria-label": `Moment of training of ${run.name}` });
  slider.value = String(start);
  const play = el("button", { type: "button", class: "play" }, "Play");
  const show = () => {
    const at = Number(slider.value);
    if (at === last) slid.delete(place);
    else slid.set(place, at);
    const words = momentWords(run, moments[at]);
    slider.setAttribute("aria-valuetext", words.join(", "));
    told.replaceChildren(el("b", {}, words[0]), ...words.slice(1).map((word) => el("span", {}, word)));
    picture.replaceChildren(bars(groups, moments[at], picture));
  };
  slider.addEventListener("input", show);
  playing(play, slider, last, show);
  const sides = run.shape.map((side) => fixed(side, 0)).join(" × ");
  const shape = sides ? el("p", { class: "soft input" }, `input ${sides} ↓`) : null;
  const controls = last > 0 ? el("div", { class: "slider" }, play, slider) : null;
  const host = el("div", { class: "network" }, controls, told, shape, picture, networkLegend(groups), reasons(groups));
  host.redraw = show;
  return host;
}

function momentWords(run, moment) {
  const part = moment.parameters / Math.max(run.start.parameters, 1);
  const error = moment.error === null ? [] : [`${moment.of} error ${errorRate(moment.error)}`];
  return [moment.title, `${count(moment.parameters)} parameters (${share(part)})`, `${count(moment.macs)} MACs`, ...error];
}

/** The whole training in about five seconds. */
function playing(button, slider, last, show) {
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  };
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    if (Number(slider.value) >= last) slider.value = "0";
    button.textContent = "Pause";
    show();
    timer = setInterval(() => {
      if (!slider.isConnected || Number(slider.value) >= last) return stop();
      slider.value = String(Number(slider.value) + 1);
      show();
    }, Math.max(40, Math.min(500, 5000 / Math.max(last, 1))));
  });
  slider.addEventListener("pointerdown", stop);
  slider.addEventListener("keydown", stop);
}

function bars(groups, moment, picture) {
  const width = Math.max(250, picture.clientWidth);
  const many = groups.length;
  const row = many <= 6 ? 58 : many <= 14 ? 36 : 22;
  const tall = many <= 6 ? 26 : many <= 14 ? 18 : 14;
  const letters = Math.floor(Math.min(width * 0.3, 190) / 7);
  const names = groups.map((group) => cut(group.name, letters));
  const left = Math.max(...names.map((name) => name.length)) * 7 + 12;
  const right = width - (width < 420 ? 82 : 104);
  const [middle, room] = [(left + right) / 2, right - left];
  const largest = Math.max(...groups.map((group) => group.size), 1);
  const wide = (units) => (units > 0 ? Math.max(2, (units / largest) * room) : 0);
  const top = (place) => place * row + (row - tall) / 2;
  const sizes = { viewBox: `0 0 ${width} ${many * row}`, width, height: many * row };
  const page = svg("svg", { ...sizes, role: "img", "aria-label": barsWords(groups, moment) });
  if (many <= 14) {
    for (let place = 0; place + 1 < many; place++) {
      page.append(band("before", middle, wide(groups[place].size), wide(groups[place + 1].size), top(place) + tall, top(place + 1)));
      page.append(band("now", middle, wide(moment.widths[place]), wide(moment.widths[place + 1]), top(place) + tall, top(place + 1)));
    }
  }
  groups.forEach((group, place) => {
    const [now, ghost, at] = [wide(moment.widths[place]), wide(group.size), top(place)];
    const kind = group.fixed === null ? "now" : "fixed";
    const counts = `${fixed(moment.widths[place], 0)} of ${fixed(group.size, 0)} units`;
    const words = group.fixed === null ? `${group.name}: ${counts}` : `${group.name} stays: ${group.fixed}`;
    const line = svg("g", {}, svg("title", {}, words),
      svg("rect", { class: "ghost", x: middle - ghost / 2, y: at, width: ghost, height: tall, rx: 3 }),
      svg("rect", { class: `bar ${kind}`, x: middle - now / 2, y: at, width: now, height: tall, rx: 3 }),
      svg("text", { class: "name", x: 0, y: at + tall / 2 + 4 }, names[place]),
      counted(moment.widths[place], group.size, width, at + tall / 2 + 4));
    page.append(line);
  });
  return page;
}

function counted(units, size, width, y) {
  const words = svg("text", { class: "units", x: width, y, "text-anchor": "end" }, svg("tspan", { class: "strong" }, fixed(units, 0)));
  if (units !== size) words.append(svg("tspan", { class: "soft" }, ` of ${fixed(size, 0)}`));
  return words;
}

function band(kind, middle, above, below, from, to) {
  const points = [[middle - above / 2, from], [middle + above / 2, from], [middle + below / 2, to], [middle - below / 2, to]];
  const words = points.map((point) => point.map((value) => value.toFixed(1)).join(","));
  return svg("polygon", { class: `band ${kind}`, points: words.join(" ") });
}

const barsWords = (groups, moment) =>
  `${moment.title}: ${groups.slice(0, 40).map((group, place) => `${group.name} ${moment.widths[place]} of ${group.size}`).join(", ")}`;

function networkLegend(groups) {
  const fixedOnes = groups.some((group) => group.fixed !== null);
  const stay = fixedOnes ? key("fixed", "cannot leave") : null;
  return el("div", { class: "legend" }, key("now", "units there"), key("ghost", "before training"), stay);
}

/** Why some groups stay, for those who cannot point at a bar. */
function reasons(groups) {
  const stay = groups.filter((group) => group.fixed !== null);
  const lines = stay.map((group) => el("li", {}, `${group.name}: ${group.fixed}`));
  return lines.length ? el("details", {}, el("summary", {}, "Why groups cannot leave"), el("ul", {}, ...lines)) : null;
}
