/* The live page: every two seconds the server is asked whether the record has grown; if so, tables and drawings are made anew. */

const EVERY = 2000;

function follow(renew) {
  const badge = document.getElementById("live");
  let seen = null;
  const state = (kind, words) => {
    badge.hidden = false;
    badge.className = kind;
    if (badge.textContent !== words) badge.textContent = words;
  };
  const ask = async () => {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", headers: seen ? { "If-None-Match": seen } : {} });
      if (answer.status === 200) {
        seen = answer.headers.get("ETag");
        renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
      state("on", "live");
    } catch {
      state("off", "no connection; last state");
    }
    setTimeout(ask, EVERY);
  };
  state("on", "live");
  setTimeout(ask, EVERY);
}

/** Tables and sentences of the newer page in place of those of this one. */
function replaceParts(newer) {
  document.title = newer.title;
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = newer.querySelector(`[data-part="${part.dataset.part}"]`);
    if (other) part.replaceChildren(...document.adoptNode(other).childNodes);
  }
}
