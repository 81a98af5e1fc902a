/* Which charts a page has: of one run its errors, losses and sizes; of several each quantity with one line per run. */

const view = { clock: "epoch", logarithmic: true, cost: "parameters", run: 0 };

const lookOf = (run) => (run.colour === null ? "var(--ink)" : `var(--c${run.colour})`);
const clockTitle = () => (view.clock === "epoch" ? "epoch" : "seconds of training");

/** A line whose cross-hair tells the values that are drawn. */
const plain = (x, y, name, colour, more) => ({ name, colour, dash: 0, x, y, at: { x, y }, stairs: false, ...more });

function line(run, key, name, colour, more = {}) {
  return plain(run.curves[view.clock], run.curves[key], name, colour, more);
}

/** Sizes change at removals, within epochs; the cross-hair tells them at the ends of epochs. */
function stairs(run, key, name, colour, part, more = {}) {
  const divide = (values) => values.map((value) => (part ? value / Math.max(run.start[key], 1) : value));
  const at = { x: run.curves[view.clock], y: divide(run.curves[key]) };
  return { name, colour, dash: 0, x: run.sizes[view.clock], y: divide(run.sizes[key]), at, stairs: true, ...more };
}

const base = () => ({ clock: view.clock, xTitle: clockTitle(), points: [], mark: null, logarithmic: false });

const ERRORS = { form: errorRate, tick: shortShare };
const LOSSES = { form: loss, tick: short };

function chartsOfOne(run) {
  if (!run.curves.epochs) return [];
  const mark = run.settled ? { x: run.settled[view.clock], words: "structure fixed" } : null;
  const ends = run.curves[view.clock];
  const test = { name: "test, of the result", colour: "var(--c1)", x: ends[ends.length - 1], y: run.test_error };
  const points = run.test_error === null ? [] : [test];
  const both = (validation, training) => [
    line(run, validation, "validation", "var(--c0)"),
    line(run, training, "training", "var(--soft)", { faint: true, dash: 1 }),
  ];
  const quality = { ...base(), logarithmic: view.logarithmic, mark };
  const size = { ...base(), form: count, tick: short, mark };
  return [
    { ...quality, ...ERRORS, title: "Error", lines: both("validation_error", "train_error"), points },
    { ...quality, ...LOSSES, title: "Loss", lines: both("validation_loss", "loss") },
    { ...size, title: "Parameters", lines: [stairs(run, "parameters", "parameters", "var(--c2)", false)] },
    { ...size, title: "MACs per example", lines: [stairs(run, "macs", "MACs", "var(--c3)", false)] },
  ];
}

function chartsOfSeveral(runs) {
  const begun = runs.filter((run) => run.curves.epochs > 0);
  const has = (key) => begun.length > 0 && begun.every((run) => run.curves[key].some((value) => value !== null));
  const each = (make) => begun.map((run) => ({ ...make(run), name: run.name, dash: run.dash }));
  const lines = (key) => each((run) => line(run, key, run.name, lookOf(run)));
  const parts = (key) => each((run) => stairs(run, key, run.name, lookOf(run), true));
  const [error, errorTitle] = has("validation_error") ? ["validation_error", "Validation error"] : ["train_error", "Training error"];
  const [lost, lostTitle] = has("validation_loss") ? ["validation_loss", "Validation loss"] : ["loss", "Training loss"];
  const quality = { ...base(), logarithmic: view.logarithmic };
  const part = { ...base(), form: share, tick: shortShare, reach: 1.04 };
  return [
    { ...quality, ...ERRORS, title: errorTitle, lines: lines(error) },
    { ...quality, ...LOSSES, title: lostTitle, lines: lines(lost) },
    { ...part, title: "Parameters, share of the start", lines: parts("parameters") },
    { ...part, title: "MACs, share of the start", lines: parts("macs") },
  ];
}

function curvesSection(runs, again) {
  const set = (key) => (value) => {
    view[key] = value;
    again(`[data-value="${value}"]`);
  };
  const charts = (runs.length === 1 ? chartsOfOne(runs[0]) : chartsOfSeveral(runs)).map(lineChart).filter(Boolean);
  const kinds = [["parameters", "parameters"], ["macs", "MACs"], ["seconds", "training time"]];
  const costs = choice("Cost against which the error is drawn", kinds, view.cost, set("cost"));
  const traded = runs.length > 1 ? scatter(runs, view.cost, costs) : null;
  if (!charts.length && !traded) return null;
  const controls = el("div", { class: "controls" },
    choice("Horizontal axis", [["epoch", "epochs"], ["seconds", "time"]], view.clock, set("clock")),
    choice("Axis of errors and losses", [[true, "logarithmic"], [false, "linear"]], view.logarithmic, set("logarithmic")));
  const heading = el("div", { class: "heading" }, el("h2", {}, "Training"), controls);
  return el("section", {}, heading, el("div", { class: "charts" }, ...(traded ? [traded] : []), ...charts), thinnedNote(runs));
}

/** Epochs that are left out are said. */
function thinnedNote(runs) {
  const left = runs.filter((run) => run.curves.epoch.length < run.curves.epochs);
  const words = left.map((run) => `${fixed(run.curves.epoch.length, 0)} of ${fixed(run.curves.epochs, 0)} epochs of ${run.name}`);
  return words.length ? el("p", { class: "soft" }, `Drawn for ${words.join(", ")}.`) : null;
}

function levelsChart(told) {
  const dash = (place) => ((place % 7) + Math.floor(place / 7)) % 4;
  const lines = told.lines.map(({ name, values }, place) =>
    plain(told.epochs, values, name, `var(--c${place % 7})`, { dash: dash(place) }));
  const chart = lineChart({ ...base(), clock: "epoch", xTitle: "epoch", title: told.title, form: level, tick: short, lines });
  chart?.querySelector("figcaption").append(el("span", { class: "soft" }, told.words));
  return chart;
}

/** What the method told, and the inputs, of one run. */
function viewsOf(run) {
  const levels = run.views.filter((told) => told.form === "levels").map(levelsChart).filter(Boolean);
  const found = run.views.filter((told) => told.form === "distribution").map(distribution);
  if (levels.length) {
    const together = el("div", { class: "charts" }, ...levels);
    found.push(Object.assign(together, { redraw: () => levels.forEach((chart) => chart.redraw()) }));
  }
  if (run.inputs) found.push(inputsDrawing(run.inputs));
  return found;
}
