/* Puts the page together: numbers in, drawings out; the choice of run and of colours. */

const numbersIn = (page) => JSON.parse(page.getElementById("data").textContent);
let data = numbersIn(document);
let drawings = [];

const put = (name, section) => document.querySelector(`[data-draw="${name}"]`)?.replaceChildren(...(section ? [section] : []));
const redrawAll = () => drawings.forEach((drawing) => drawing.redraw());

/** Make all drawings anew; `focus` finds the control that was used, so that the keyboard stays where it was. */
function drawAll(focus) {
  tip.hide();
  const { runs } = data;
  drawings = [];
  view.run = Math.min(view.run, Math.max(0, runs.length - 1));
  const section = runs.length ? curvesSection(runs, drawAll) : null;
  put("curves", section);
  put("choice", runs.length > 1 ? runChoice(runs) : null);
  document.querySelectorAll("[data-run]").forEach((article, place) => {
    article.hidden = runs.length > 1 && place !== view.run;
    const [drawn, told] = [article.querySelector('[data-draw="network"]'), article.querySelector('[data-draw="views"]')];
    const own = article.hidden ? [] : [networkDrawing(runs[place], place), ...viewsOf(runs[place])];
    drawn.replaceChildren(...own.slice(0, 1));
    told.replaceChildren(...own.slice(1));
    drawings.push(...own);
  });
  drawings.push(...(section ? section.querySelectorAll(".chart") : []));
  drawings = drawings.filter((drawing) => drawing.redraw);
  redrawAll();
  if (focus) document.querySelector(`main ${focus}`)?.focus();
}

function runChoice(runs) {
  const options = runs.map((run, place) => [place, run.name]);
  const chosen = choice("Run to look at", options, view.run, (place) => {
    view.run = place;
    drawAll(`[data-draw="choice"] [data-value="${place}"]`);
  });
  return el("section", {}, el("div", { class: "heading" }, el("h2", {}, "Run by run")), chosen);
}

/** The browser's colours, then light, then dark; remembered where the browser allows it. */
function theme(button) {
  const names = ["auto", "light", "dark"];
  const stored = () => {
    try {
      return localStorage.getItem("parsinet-theme");
    } catch {
      return null;
    }
  };
  const use = (name) => {
    if (name === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", name);
    button.textContent = `Colours: ${name}`;
    button.setAttribute("aria-label", `Colours of the page: ${name}. Press to change.`);
    try {
      localStorage.setItem("parsinet-theme", name);
    } catch {
      /* a page opened from a file may have no storage */
    }
  };
  let now = names.includes(stored()) ? stored() : "auto";
  button.hidden = false;
  use(now);
  button.addEventListener("click", () => {
    now = names[(names.indexOf(now) + 1) % names.length];
    use(now);
    redrawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
}

theme(document.getElementById("theme"));
drawAll();
let wide = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== wide) redrawAll();
  wide = innerWidth;
});
addEventListener("scroll", () => tip.hide(), { passive: true });
if (data.live) {
  follow((newer) => {
    const held = document.activeElement?.closest("main [id]")?.id;
    replaceParts(newer);
    data = numbersIn(newer);
    drawAll(held && `#${held}`);
  });
}
