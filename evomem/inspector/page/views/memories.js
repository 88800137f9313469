// The memories that the key may read: with their sizes, and forks below what they were forked from.

import { call } from "../api.js";
import { announce, count, debounce, el, field, fill, turnsOf } from "../dom.js";
import { joinName, linkTo } from "../names.js";

const PAGE = 200;

export async function showMemories({ about, main, signal }) {
  const prefix = el("input", { type: "search", placeholder: "acme/alice", autocomplete: "off", spellcheck: false });
  const list = el("div", {});
  main.replaceChildren(
    el("h1", {}, "Memories"),
    el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
      field("Names that begin with", prefix)),
    list,
  );
  const load = () => fill(list, () => page(about, prefix.value.trim(), signal));
  prefix.addEventListener("input", debounce(load, 250));
  await load();
}

async function page(about, prefix, signal) {
  const query = { prefix, limit: PAGE };
  const items = [];
  const place = el("div", {});
  const add = async (after) => {
    const found = await call("v1/tree", { query: { ...query, after }, signal });
    items.push(...found.memories);
    place.replaceChildren(items.length ? tree(items) : nothing(prefix),
      ...(found.next ? [el("button", { type: "button", onclick: () => add(found.next) }, "More")] : []));
    announce(`${count(items.length)} memories${found.next ? " so far" : ""}`);
  };
  await add("");
  return place;
}

function nothing(prefix) {
  return el("div", { class: "empty card" },
    el("p", {}, prefix ? `No memory's name begins with ${prefix}.` : "There is no memory yet."),
    prefix ? el("p", { class: "muted" }, "Whole labels count: acme finds acme/alice, ac does not.")
      : el("pre", {}, 'evomem add "I live in Bergen." --memory acme --memory alice'));
}

// Forks stand below their parents if these are shown, too.
function tree(items) {
  const known = new Map(items.map((item) => [joinName(item.memory), { ...item, forks: [] }]));
  const roots = [];
  for (const item of known.values()) {
    const parent = item.parent && known.get(joinName(item.parent));
    (parent ? parent.forks : roots).push(item);
  }
  return el("ul", { class: "tree card" }, roots.map((item) => branch(item)));
}

function branch(item, known = 0) {
  const { memory, turns, shared, parent, forks } = item;
  const labels = memory.slice(0, -1).slice(known);
  return el("li", {},
    el("a", { href: linkTo(memory), class: "row" },
      el("span", { class: "name" },
        labels.length ? el("span", { class: "muted" }, `${labels.join(" / ")} / `) : null,
        el("strong", {}, memory.at(-1))),
      shared ? el("span", { class: "badge" },
        parent && !known ? `fork of ${parent.join(" / ")} at turn ${count(shared)}` : `fork at turn ${count(shared)}`) : null,
      el("span", { class: "size" }, turnsOf(turns)),
    ),
    forks.length ? el("ul", {}, forks.map((fork) => branch(fork, memory.length))) : null,
  );
}
