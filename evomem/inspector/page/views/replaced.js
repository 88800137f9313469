// What was replaced by what.

import { announce, el, fill } from "../dom.js";
import { linkTo } from "../names.js";
import { turnCard } from "../turns.js";

export async function showReplaced({ api, place, values, labels }) {
  const list = el("div", {});
  place.replaceChildren(
    el("p", { class: "muted" }, "Corrections and edited messages take the places of earlier turns. The earlier ones stay: ",
      "searches as of a point before the change still find them."),
    list);
  await fill(list, async () => {
    const { pairs, next } = await api.replaced({ after: values.get("after"), limit: 50 });
    announce(`${pairs.length} replaced turns`);
    if (!pairs.length) return el("p", { class: "empty card" }, "No turn was ever replaced here.");
    return [
      el("ol", { class: "pairs" }, pairs.map(pair)),
      next ? el("a", { class: "button", href: linkTo(labels, "replaced", { after: next }) }, "Later") : null,
    ];
  });
}

function pair({ old, new: newer }) {
  return el("li", { class: "pair" },
    turnCard(old, { heading: 2, className: "is-replaced" }),
    el("span", { class: "arrow", "aria-hidden": "true" }),
    newer ? turnCard(newer, { heading: 2 }) : el("p", { class: "empty card" }, "The turn that took its place was deleted."));
}
