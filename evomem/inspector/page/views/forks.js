// The forks of a memory, and where they part.

import { memoryApi } from "../api.js";
import { count, el, fill, turnsOf } from "../dom.js";
import { linkTo, shownName } from "../names.js";
import { turnCard } from "../turns.js";

const SHOWN = 10;

export async function showForks({ api, overview, place, signal, labels }) {
  const own = overview.shared && overview.parent ? [{ ...overview, isParent: true }] : [];
  const related = [...own, ...overview.forks];
  if (!related.length) {
    place.replaceChildren(el("p", { class: "empty card" }, "This memory has no forks, and is none."));
    return;
  }
  place.replaceChildren(el("ol", { class: "forks" }, related.map((node) => fork(node, { api, signal, labels }))));
}

function fork(node, { api, signal, labels }) {
  const other = node.isParent ? node.parent : node.memory;
  const difference = el("div", {});
  const button = el("button", { type: "button", "aria-expanded": "false", onclick: () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    difference.hidden = open;
    if (open) return;
    fill(difference, async () => {
      const query = { after: node.shared, limit: SHOWN };
      const [here, there] = await Promise.all([api.turns(query), memoryApi(other, signal).turns(query)]);
      return el("div", { class: "columns two" }, side(labels, here), side(other, there));
    });
  } }, "Show where they part");
  return el("li", { class: "card" },
    el("h2", {}, node.isParent ? "Forked from " : "", el("a", { href: linkTo(other) }, other.join(" / "))),
    el("p", { class: "muted" }, node.isParent
      ? `Turns 1 – ${count(node.shared)} are those of ${shownName(other)}.`
      : `Shares turns 1 – ${count(node.shared)}; has ${turnsOf(node.turns)}.`),
    button, difference);
}

function side(labels, { turns, next }) {
  return el("section", { class: "column", "aria-label": `Only in ${labels.join(" / ")}` },
    el("h3", {}, "Only in ", el("b", {}, labels.join(" / "))),
    turns.length ? turns.map((turn) => turnCard(turn, { heading: 4 })) : el("p", { class: "empty" }, "Nothing was added since."),
    next ? el("a", { class: "button", href: linkTo(labels, "timeline", { after: next }) }, "More") : null);
}
