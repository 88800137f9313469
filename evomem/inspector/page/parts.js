// What a score is the sum of, as bars.

import { el } from "./dom.js";

export const PARTS = {
  evolvable: "how close the turn is to the query, both read in the light of what was said before",
  lexical: "the words that the turn shares with the query (BM25)",
  time: "the turn was said at the time that the query names, or writes that day",
  event: "the turn tells of what the query counts a time from",
  session: "the best turn of its session",
  beside: "the turns next to it",
  current: "the query wants the newest or the oldest of turns about the same thing",
  trust: "less, because its source is trusted less",
};

const written = (value) => (value < 0 ? "−" : "") + Math.abs(value).toFixed(2);

// `scale` is the best score of all columns, so that bars can be compared between them.
export function bars(hit, scale) {
  const entries = Object.entries(hit.parts).filter(([, value]) => Math.abs(value) >= 0.005);
  const width = (value) => `${Math.max(0.6, (100 * Math.abs(value)) / Math.max(scale, 1e-9))}%`;
  const segment = ([name, value]) => {
    const bar = el("span", { class: `segment part-${name} ${value < 0 ? "less" : ""}` });
    bar.style.width = width(value);
    return bar;
  };
  return el("div", { class: "parts" },
    el("div", { class: "stack", "aria-hidden": "true" },
      entries.filter(([, value]) => value > 0).map(segment),
      entries.filter(([, value]) => value < 0).map(segment)),
    el("ul", { "aria-label": `Score ${written(hit.score)}, the sum of` },
      entries.map(([name, value]) => el("li", {},
        el("span", { class: `dot part-${name}`, "aria-hidden": "true" }), `${name} `,
        el("b", {}, written(value))))),
  );
}

export function legend() {
  return el("details", { class: "legend" },
    el("summary", {}, "What the parts mean"),
    el("dl", {}, Object.entries(PARTS).map(([name, text]) => el("div", {},
      el("dt", {}, el("span", { class: `dot part-${name}`, "aria-hidden": "true" }), name),
      el("dd", {}, text)))),
  );
}

export { written };
