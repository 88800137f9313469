// One turn, as every view shows it.

import { el, moment } from "./dom.js";

const LONG = 420; // characters after which a text is cut until one asks for the rest

export function longText(text, tag = "p", limit = LONG) {
  const body = el(tag, { class: "said" }, text.length > limit ? `${text.slice(0, limit)} …` : text);
  if (text.length <= limit) return [body];
  const more = el("button", { type: "button", class: "link", "aria-expanded": "false", onclick: () => {
    const open = more.getAttribute("aria-expanded") === "true";
    body.textContent = open ? `${text.slice(0, limit)} …` : text;
    more.setAttribute("aria-expanded", String(!open));
    more.textContent = open ? "Show all" : "Show less";
  } }, "Show all");
  return [body, more];
}

export function sides(turn) {
  const first = turn.user ? turn.speaker ?? "User" : null;
  const second = turn.user ? "Assistant" : turn.speaker ?? "Assistant";
  return [
    first && el("div", { class: "side user" }, el("span", { class: "who" }, first), longText(turn.user)),
    turn.assistant && el("div", { class: "side reply" }, el("span", { class: "who" }, second), longText(turn.assistant)),
  ].filter(Boolean);
}

export function labelsOf(turn) {
  const labels = [
    turn.session && ["session", turn.session],
    turn.source && ["source", turn.source],
    ...Object.entries(turn.metadata).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  ].filter(Boolean);
  return labels.length
    ? el("ul", { class: "labels", "aria-label": "Labels" }, labels.map(([name, value]) =>
      el("li", {}, el("span", { class: "muted" }, `${name} `), value.length > 60 ? `${value.slice(0, 60)} …` : value)))
    : null;
}

export function turnCard(turn, { actions = [], heading = 3, className = "" } = {}) {
  return el("article", { class: `turn ${className}`, "aria-label": `Turn ${turn.seq}` },
    el("header", {},
      el(`h${heading}`, { class: "seq" }, el("span", { class: "hash" }, "Turn "), String(turn.seq)),
      moment(turn.time),
      turn.replaced_by ? el("span", { class: "badge gone" }, `replaced by turn ${turn.replaced_by}`) : null,
      el("span", { class: "actions" }, actions),
    ),
    sides(turn),
    labelsOf(turn),
  );
}

export const excerpt = (turn, limit = 90) => {
  const text = (turn.user || turn.assistant).replace(/\s+/g, " ").trim();
  return text.length > limit ? `${text.slice(0, limit)} …` : text;
};
