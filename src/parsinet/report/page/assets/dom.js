/* Elements without strings of HTML: whatever a record says ends up as text. */

const SPACE = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const el = (name, attributes = {}, ...children) => filled(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) => filled(document.createElementNS(SPACE, name), attributes, children);

/** A colour of the page's style, as the present theme has it. */
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Text that is cut to fit so many letters. */
const cut = (text, letters) => (text.length > letters ? text.slice(0, Math.max(1, letters - 1)) + "…" : text);

/** A square in the colour of one of the classes of the style, and what it stands for. */
const key = (kind, words) => el("span", {}, el("i", { class: `key ${kind}` }), words);

/** A row of buttons of which one is chosen. */
function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, words]) =>
    el("button", { type: "button", "aria-pressed": String(value === chosen), "data-value": value, onclick: () => choose(value) }, words));
  return el("div", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}

/** The one box that follows the pointer; rows are [colour or null, name, value]. */
const tip = {
  box: null,
  show(x, y, title, rows) {
    this.box ??= document.body.appendChild(el("div", { class: "tip", "aria-hidden": "true" }));
    const lines = rows.map(([colour, name, value]) =>
      el("div", {}, el("i", { style: colour ? `background:${colour}` : "visibility:hidden" }), el("span", {}, name), el("b", {}, value)));
    this.box.replaceChildren(el("strong", {}, title), ...lines);
    this.box.hidden = false;
    const { width, height } = this.box.getBoundingClientRect();
    const left = x + 16 + width > innerWidth - 8 ? x - 16 - width : x + 16;
    this.box.style.left = `${Math.max(8, Math.min(left, innerWidth - width - 8))}px`;
    this.box.style.top = `${Math.max(8, Math.min(y - height / 2, innerHeight - height - 8))}px`;
  },
  hide() {
    if (this.box) this.box.hidden = true;
  },
};

/** What a screen reader says when a key moves the cross-hair. */
function say(words) {
  let told = document.getElementById("told");
  told ??= document.body.appendChild(el("div", { id: "told", class: "unseen", role: "status" }));
  told.textContent = words;
}
