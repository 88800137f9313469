// One memory: what it is, and the tabs that show it.

import { memoryApi } from "../api.js";
import { count, dayOf, el, turnsOf } from "../dom.js";
import { linkTo } from "../names.js";
import { showForks } from "./forks.js";
import { showMap } from "./map.js";
import { showReplaced } from "./replaced.js";
import { showSearch } from "./search.js";
import { showTimeline } from "./timeline.js";

const TABS = [
  ["timeline", "Timeline", showTimeline],
  ["search", "Search", showSearch],
  ["map", "Map", showMap],
  ["replaced", "Replaced", showReplaced],
  ["forks", "Forks", showForks],
];

export async function showMemory({ about, main, signal, values, labels, tab }) {
  const api = memoryApi(labels, signal);
  const overview = await api.overview();
  const place = el("div", { class: "tab" });
  const [, title, showTab] = TABS.find(([name]) => name === tab) ?? TABS[0];
  main.replaceChildren(
    el("nav", { class: "crumbs", "aria-label": "You are here" },
      el("a", { href: "#/" }, "Memories"), el("span", { "aria-hidden": "true" }, "›"),
      el("span", {}, labels.slice(0, -1).join(" / "))),
    el("h1", {}, labels.at(-1)),
    facts(overview),
    el("nav", { class: "tabs", "aria-label": "Views of this memory" }, el("ul", {}, TABS.map(([name, text]) =>
      el("li", {}, el("a", { href: linkTo(labels, name), "aria-current": text === title ? "page" : null }, text))))),
    place,
  );
  await showTab({ about, api, overview, place, signal, values, labels });
}

function facts(overview) {
  const { turns, session_count, first_time, last_time, shared, parent, digest } = overview;
  return el("ul", { class: "facts", "aria-label": "About this memory" },
    el("li", {}, turnsOf(turns)),
    session_count ? el("li", {}, `${count(session_count)} session${session_count === 1 ? "" : "s"}`) : null,
    first_time ? el("li", {}, `${dayOf(first_time)} – ${dayOf(last_time)}`) : null,
    shared ? el("li", {}, "fork", parent ? [" of ", el("a", { href: linkTo(parent) }, parent.join(" / "))] : "",
      ` at turn ${count(shared)}`) : null,
    el("li", { title: "The digest of all turns, in order: equal digests mean equal pasts" },
      "digest ", el("code", {}, digest.slice(0, 12) || "none")),
  );
}
