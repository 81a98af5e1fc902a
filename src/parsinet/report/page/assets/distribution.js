/* How a value per unit is distributed: one picture per group, epochs to the right, the value upwards, the darker the more units. */

const few = () => (innerWidth < 600 ? 4 : 12);

function distribution(view) {
  const host = el("section", { class: "card" }, el("h3", {}, view.title), el("p", { class: "soft" }, view.words));
  const most = Math.max(1, ...view.groups.flatMap((group) => group.counts.flatMap((counts) => counts ?? [])));
  const cells = view.groups.map((group) => distributionCell(view, group, most));
  const grid = el("div", { class: "cells" }, ...cells.slice(0, few()));
  host.append(scaleOfUnits(most, view.groups.some((group) => group.counts.includes(null))), grid);
  host.redraw = () => [...grid.children].forEach((cell) => cell.redraw());
  if (cells.length > few()) {
    const more = el("button", { type: "button" }, `Show all ${cells.length} groups`);
    more.addEventListener("click", () => {
      grid.append(...cells.slice(grid.children.length));
      more.remove();
      host.redraw();
    });
    host.append(more);
  }
  return host;
}

function scaleOfUnits(most, gaps) {
  const strip = el("i", { class: "strip", "aria-hidden": "true" });
  return el("div", { class: "legend" }, el("span", {}, "1 unit"), strip, el("span", {}, `${fixed(most, 0)} units (logarithmic)`),
    gaps ? key("none", "no value recorded") : null);
}

function distributionCell(view, group, most) {
  const { place, units, mean } = group.latest;
  const words = `${fixed(units, 0)} units when last recorded${mean === null ? "" : `, mean ${level(mean)}`}`;
  const canvas = el("canvas", { role: "img", "aria-label": `${group.name}: ${words}` });
  const ends = [view.epochs[0], view.epochs[view.epochs.length - 1]];
  const foot = el("div", { class: "foot" }, ...ends.map((epoch) => el("span", {}, `epoch ${fixed(epoch, 0)}`)));
  const edges = [view.high, view.low].map((value) => el("span", {}, String(+value.toPrecision(3))));
  const plane = el("div", { class: "plane" }, el("div", { class: "scale", "aria-hidden": "true" }, ...edges), canvas);
  const cell = el("figure", { class: "cell" }, el("figcaption", {}, el("b", {}, group.name), el("span", {}, words)), plane, foot);
  cell.redraw = () => heat(canvas, group.counts, most);
  canvas.addEventListener("pointermove", (event) => tellCell(event, canvas, view, group));
  canvas.addEventListener("pointerleave", () => tip.hide());
  return cell;
}

function heat(canvas, columns, most) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const sharp = devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * sharp, height * sharp];
  const ink = canvas.getContext("2d");
  ink.scale(sharp, sharp);
  const [none, colour] = [colourOf("--none"), colourOf("--c0")];
  columns.forEach((counts, place) => {
    const [from, to] = [(place * width) / columns.length, ((place + 1) * width) / columns.length];
    if (counts === null) {
      ink.globalAlpha = 1;
      ink.fillStyle = none;
      ink.fillRect(from, 0, to - from, height);
      return;
    }
    ink.fillStyle = colour;
    counts.forEach((units, bin) => {
      if (!units) return;
      const tall = height / counts.length;
      ink.globalAlpha = 0.2 + 0.8 * (most > 1 ? Math.log(units) / Math.log(most) : 1);
      ink.fillRect(from, height - (bin + 1) * tall, to - from + 0.3, tall + 0.3);
    });
  });
}

function tellCell(event, canvas, view, group) {
  const frame = canvas.getBoundingClientRect();
  const place = within((event.clientX - frame.left) / frame.width, group.counts.length);
  const counts = group.counts[place];
  const title = `${group.name}, epoch ${fixed(view.epochs[place], 0)}`;
  if (counts === null) return tip.show(event.clientX, event.clientY, title, [[null, "no value recorded", ""]]);
  const bin = within(1 - (event.clientY - frame.top) / frame.height, counts.length);
  const edge = (at) => level(view.low + ((view.high - view.low) * at) / counts.length);
  tip.show(event.clientX, event.clientY, title, [[colourOf("--c0"), `${edge(bin)} to ${edge(bin + 1)}`, `${fixed(counts[bin], 0)} units`]]);
}
