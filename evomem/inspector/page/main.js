// The frame of the page: who looks, which sections there are, and which view the address names.

import { call, hasKey, setKey } from "./api.js";
import { announce, el, problem, waiting } from "./dom.js";
import { shownName, splitName } from "./names.js";
import { showAccess } from "./views/access.js";
import { showDatabase } from "./views/database.js";
import { showKeys } from "./views/keys.js";
import { showMemories } from "./views/memories.js";
import { showMemory } from "./views/memory.js";

const main = document.getElementById("main");
let about = null;
let view = new AbortController();
let shown = null;

function route() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { parts, values: new URLSearchParams(query) };
}

function sections() {
  const { rights, prefix } = about.key;
  const isAdmin = rights.includes("admin");
  return [
    rights.includes("read") && ["", "Memories"],
    isAdmin && !prefix.length && ["database", "Database"],
    isAdmin && ["keys", "Keys"],
    isAdmin && ["access", "Access log"],
  ].filter(Boolean);
}

function showFrame(current) {
  document.getElementById("nav").replaceChildren(
    el("ul", {}, sections().map(([name, text]) =>
      el("li", {}, el("a", { href: `#/${name}`, "aria-current": current === name ? "page" : null }, text)))),
  );
  const { key } = about;
  document.getElementById("whoami").replaceChildren(
    el("p", {}, el("span", { class: "muted" }, "Sees "), el("strong", {}, shownName(key.prefix))),
    el("p", { class: "muted" }, `Encoder ${about.encoder.name}`),
    el("p", { class: "muted" }, `evomem ${about.evomem}${about.read_only ? " · read-only" : ""}`),
    hasKey() && el("button", { type: "button", class: "quiet", onclick: signOut }, "Forget the key"),
  );
}

function signOut() {
  setKey(null);
  about = null;
  start();
}

function askForKey(message) {
  document.getElementById("nav").replaceChildren();
  document.getElementById("whoami").replaceChildren();
  const input = el("input", { type: "password", id: "key", autocomplete: "off", required: true, spellcheck: false });
  const fault = el("div", {}, message && problem({ message }));
  const form = el("form", { class: "card narrow", onsubmit: async (event) => {
    event.preventDefault();
    setKey(input.value.trim());
    const failed = await start();
    if (failed) document.getElementById("key")?.focus();
  } },
    el("h1", {}, "Open your memories"),
    el("p", { class: "muted" }, "Enter a key of this service. It stays in this tab until you close it."),
    el("div", { class: "field" }, el("label", { htmlFor: "key" }, "Key"), input),
    fault,
    el("button", { type: "submit", class: "primary" }, "Open"),
  );
  document.title = "Key · evomem";
  main.replaceChildren(form);
}

async function redeem(ticket) {
  history.replaceState(null, "", "#/"); // the ticket works once, and stays in no history
  const { key } = await call("page/ticket", { method: "POST", key: ticket });
  setKey(key);
}

// Finds out who looks. Returns whether a key has to be asked for.
async function start() {
  main.replaceChildren(waiting());
  try {
    const ticket = /^#ticket=([\w-]+)$/.exec(location.hash);
    if (ticket) await redeem(ticket[1]);
    about = await call("v1");
  } catch (error) {
    if (error.status === 401) {
      const tried = hasKey() || location.hash.startsWith("#ticket");
      setKey(null);
      askForKey(tried || error.message.includes("link") ? error.message : "");
    } else {
      main.replaceChildren(problem(error), el("button", { type: "button", onclick: start }, "Try again"));
    }
    return true;
  }
  shown = null;
  await show();
  return false;
}

async function show() {
  if (/^#ticket=/.test(location.hash)) return start();
  if (!about) return;
  view.abort();
  view = new AbortController();
  const { signal } = view;
  const { parts, values } = route();
  const [section = "", name = "", tab = "timeline"] = parts;
  showFrame(section === "m" ? "" : section);
  const context = { about, main, signal, values };
  const views = { "": showMemories, database: showDatabase, keys: showKeys, access: showAccess };
  try {
    if (section === "m") await showMemory({ ...context, labels: splitName(name), tab });
    else await (views[section] ?? showMemories)(context);
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (error.status === 401) return start();
    main.replaceChildren(el("h1", {}, "This cannot be shown"), problem(error));
  }
  const heading = main.querySelector("h1");
  document.title = `${heading?.textContent ?? ""} · evomem`;
  const place = parts.join("/");
  if (shown !== null && shown !== place) { // on the first view, the browser's own focus is right
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
    announce(heading?.textContent ?? "");
  }
  shown = place;
}

document.getElementById("skip").addEventListener("click", () => main.focus());
addEventListener("hashchange", show);
start();
