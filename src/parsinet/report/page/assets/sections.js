/* Which charts a page has: of one run its errors, losses and sizes; of several each quantity with one line per run. */

const view = { clock: "epoch", logarithmic: true, cost: "parameters", run: 0 };

const lookOf = (run) => (run.colour === null ? "var(--ink)" : `var(--c${run.colour})`);
const clockTitle = () => (view.clock === "epoch" ? "epoch" : "seconds of training");

function line(run, key, name, colour, more = {}) {
  const { curves } = run;
  return { name, colour, dash: 0, x: curves[view.clock], y: curves[key], at: { x: curves[view.clock], y: curves[key] }, stairs: false, ...more };
}

/** Sizes change at removals, within epochs; the cross-hair tells them at the ends of epochs. */
function stairs(run, key, name, colour, part, more = {}) {
  const divide = (values) => values.map((value) => (part ? value / Math.max(run.start[key], 1) : value));
  const at = { x: run.curves[view.clock], y: divide(run.curves[key]) };
  return { name, colour, dash: 0, x: run.sizes[view.clock], y: divide(run.sizes[key]), at, stairs: true, ...more };
}

const base = () => ({ clock: view.clock, xTitle: clockTitle(), points: [], mark: null, logarithmic: false });

function chartsOfOne(run) {
  if (!run.curves.epochs) return [];
  const mark = run.settled ? { x: run.settled[view.clock], words: "structure fixed" } : null;
  const ends = run.curves[view.clock];
  const test = run.test_error === null ? [] : [{ name: "test, of the result", colour: "var(--c1)", x: ends[ends.length - 1], y: run.test_error }];
  return [
    { ...base(), title: "Error", form: errorRate, tick: shortShare, logarithmic: view.logarithmic, mark, points: test,
      lines: [line(run, "validation_error", "validation", "var(--c0)"), line(run, "train_error", "training", "var(--soft)", { faint: true, dash: 1 })] },
    { ...base(), title: "Loss", form: loss, tick: short, logarithmic: view.logarithmic, mark,
      lines: [line(run, "validation_loss", "validation", "var(--c0)"), line(run, "loss", "training", "var(--soft)", { faint: true, dash: 1 })] },
    { ...base(), title: "Parameters", form: count, tick: short, mark, lines: [stairs(run, "parameters", "parameters", "var(--c2)", false)] },
    { ...base(), title: "MACs per example", form: count, tick: short, mark, lines: [stairs(run, "macs", "MACs", "var(--c3)", false)] },
  ];
}

function chartsOfSeveral(runs) {
  const begun = runs.filter((run) => run.curves.epochs > 0);
  const has = (key) => begun.length > 0 && begun.every((run) => run.curves[key].some((value) => value !== null));
  const each = (make) => begun.map((run) => ({ ...make(run), name: run.name, dash: run.dash }));
  const lines = (key) => each((run) => line(run, key, run.name, lookOf(run)));
  const parts = (key) => each((run) => stairs(run, key, run.name, lookOf(run), true));
  const [error, lost] = [has("validation_error"), has("validation_loss")];
  return [
    { ...base(), title: error ? "Validation error" : "Training error", form: errorRate, tick: shortShare, logarithmic: view.logarithmic, lines: lines(error ? "validation_error" : "train_error") },
    { ...base(), title: lost ? "Validation loss" : "Training loss", form: loss, tick: short, logarithmic: view.logarithmic, lines: lines(lost ? "validation_loss" : "loss") },
    { ...base(), title: "Parameters, share of the start", form: share, tick: shortShare, reach: 1.04, lines: parts("parameters") },
    { ...base(), title: "MACs, share of the start", form: share, tick: shortShare, reach: 1.04, lines: parts("macs") },
  ];
}

function curvesSection(runs, again) {
  const set = (key) => (value) => {
    view[key] = value;
    again(`[data-value="${value}"]`);
  };
  const charts = (runs.length === 1 ? chartsOfOne(runs[0]) : chartsOfSeveral(runs)).map(lineChart).filter(Boolean);
  const costs = choice("Cost against which the error is drawn", [["parameters", "parameters"], ["macs", "MACs"], ["seconds", "training time"]], view.cost, set("cost"));
  const traded = runs.length > 1 ? scatter(runs, view.cost, costs) : null;
  if (!charts.length && !traded) return null;
  const controls = el("div", { class: "controls" },
    choice("Horizontal axis", [["epoch", "epochs"], ["seconds", "time"]], view.clock, set("clock")),
    choice("Axis of errors and losses", [[true, "logarithmic"], [false, "linear"]], view.logarithmic, set("logarithmic")));
  return el("section", {}, el("div", { class: "heading" }, el("h2", {}, "Training"), controls), el("div", { class: "charts" }, ...(traded ? [traded] : []), ...charts), thinnedNote(runs));
}

/** Epochs that are left out are said. */
function thinnedNote(runs) {
  const left = runs.filter((run) => run.curves.epoch.length < run.curves.epochs);
  return left.length ? el("p", { class: "soft" }, `Drawn for ${left.map((run) => `${fixed(run.curves.epoch.length, 0)} of ${fixed(run.curves.epochs, 0)} epochs of ${run.name}`).join(", ")}.`) : null;
}

function levelsChart(told) {
  const colours = told.lines.map((_, place) => [`var(--c${place % 7})`, Math.floor(place / 7) % 4]);
  const lines = told.lines.map(({ name, values }, place) => ({ name, colour: colours[place][0], dash: colours[place][1], x: told.epochs, y: values, at: { x: told.epochs, y: values }, stairs: false }));
  const chart = lineChart({ ...base(), clock: "epoch", xTitle: "epoch", title: told.title, form: level, tick: short, lines });
  chart?.querySelector("figcaption").append(el("span", { class: "soft" }, told.words));
  return chart;
}

/** What the method told, and the inputs, of one run. */
function viewsOf(run) {
  const levels = run.views.filter((told) => told.form === "levels").map(levelsChart).filter(Boolean);
  const found = run.views.filter((told) => told.form === "distribution").map(distribution);
  if (levels.length) found.push(Object.assign(el("div", { class: "charts" }, ...levels), { redraw: () => levels.forEach((chart) => chart.redraw()) }));
  if (run.inputs) found.push(inputsDrawing(run.inputs));
  return found;
}
