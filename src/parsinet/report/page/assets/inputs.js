/* Which pixels of the input the result still reads, each at its place. */

function inputsDrawing(inputs) {
  const part = inputs.kept / Math.max(inputs.inputs, 1);
  const words = `${fixed(inputs.kept, 0)} of ${fixed(inputs.inputs, 0)} inputs (${share(part)}) are read by the result.`;
  const images = inputs.channels.map((rows, channel) => pixels(rows, inputs.channels.length > 1 ? `channel ${channel}` : ""));
  const legend = el("div", { class: "legend" }, key("now", "read"), key("none", "left out"));
  const heading = [el("h3", {}, "Inputs that are read"), el("p", { class: "soft" }, words)];
  const host = el("section", { class: "card" }, ...heading, el("div", { class: "images" }, ...images), legend);
  host.redraw = () => images.forEach((image) => image.redraw());
  return host;
}

function pixels(rows, name) {
  const [height, width] = [rows.length, rows[0].length];
  const kept = rows.join("").split("1").length - 1;
  const words = `${name ? name + ": " : ""}${kept} of ${width * height} pixels are read`;
  const canvas = el("canvas", { width, height, role: "img", "aria-label": words, style: `aspect-ratio:${width}/${height}` });
  const figure = el("figure", {}, canvas, name ? el("figcaption", {}, name) : null);
  figure.redraw = () => {
    const ink = canvas.getContext("2d");
    rows.forEach((row, y) => [...row].forEach((pixel, x) => {
      ink.fillStyle = colourOf(pixel === "1" ? "--c0" : "--none");
      ink.fillRect(x, y, 1, 1);
    }));
  };
  canvas.addEventListener("pointermove", (event) => {
    const frame = canvas.getBoundingClientRect();
    const x = within((event.clientX - frame.left) / frame.width, width);
    const y = within((event.clientY - frame.top) / frame.height, height);
    tip.show(event.clientX, event.clientY, `row ${y}, column ${x}`, [[null, rows[y][x] === "1" ? "read" : "left out", ""]]);
  });
  canvas.addEventListener("pointerleave", () => tip.hide());
  return figure;
}
