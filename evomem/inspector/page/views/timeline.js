// The turns in order, a page at a time, with filters that the address keeps.

import { announce, count, dayOf, el, field, fill } from "../dom.js";
import { linkTo } from "../names.js";
import { turnCard } from "../turns.js";
import { openPurge } from "./purge.js";

const PAGE = 50;
const FILTERS = ["session", "speaker", "words", "since", "until"];

export async function showTimeline({ about, api, overview, place, values, labels }) {
  const list = el("div", { class: "timeline" });
  const chosen = Object.fromEntries(FILTERS.map((name) => [name, values.get(name) ?? ""]));
  const all = values.get("all") === "true";
  const after = Math.max(0, Number(values.get("after")) || 0);
  place.replaceChildren(filters(chosen, all, overview, labels), list);
  const isFiltered = FILTERS.some((name) => chosen[name]);
  const go = (from) => linkTo(labels, "timeline", given({ ...chosen, all: all ? "true" : "", after: from || "" }));
  const load = () => fill(list, async () => {
    const { turns, next } = await api.turns({
      ...chosen, since: dayStart(chosen.since), until: dayEnd(chosen.until), all: all || null, after, limit: PAGE,
    });
    announce(turns.length ? `${count(turns.length)} turns shown` : "No turns");
    return [
      steps({ turns, next, after, overview, go, isFiltered, labels, chosen, all }),
      turns.length ? sessions(turns, (turn) => action(turn, { about, api, load })) : nothing(isFiltered, after),
      turns.length > 8 ? steps({ turns, next, after, overview, go, isFiltered, labels, chosen, all, isBelow: true }) : null,
    ];
  });
  await load();
}

const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== ""));
const dayStart = (day) => (day ? new Date(`${day}T00:00`).toISOString() : "");
const dayEnd = (day) => {
  if (!day) return "";
  const end = new Date(`${day}T00:00`);
  end.setDate(end.getDate() + 1);
  return end.toISOString();
};

function filters(chosen, all, overview, labels) {
  const input = (name, type = "search") =>
    el("input", { name, type, value: chosen[name], autocomplete: "off", ...(name === "session" && { list: "sessions" }) });
  const replaced = el("input", { type: "checkbox", name: "all", id: "all", checked: all });
  const isOpen = FILTERS.some((name) => chosen[name]) || all || matchMedia("(min-width: 60rem)").matches;
  const form = el("form", { class: "filters", role: "search", "aria-label": "Filter the timeline", onsubmit: (event) => {
    event.preventDefault();
    const wanted = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, String(value).trim()]));
    if (replaced.checked) wanted.all = "true";
    location.hash = linkTo(labels, "timeline", given(wanted));
  } },
    field("Words", input("words")),
    field("Session", input("session")),
    field("Speaker", input("speaker")),
    field("From", input("since", "date")),
    field("Until", input("until", "date")),
    el("div", { class: "check" }, replaced, el("label", { htmlFor: "all" }, "with replaced turns")),
    el("div", { class: "buttons" },
      el("button", { type: "submit", class: "primary" }, "Apply"),
      el("a", { class: "button", href: linkTo(labels, "timeline") }, "Clear")),
    el("datalist", { id: "sessions" }, overview.sessions.map((name) => el("option", { value: name }))),
  );
  return el("details", { class: "card", open: isOpen }, el("summary", {}, "Filters"), form);
}

function steps({ turns, next, after, overview, go, isFiltered, labels, chosen, all, isBelow = false }) {
  const { last } = overview;
  const range = turns.length ? `Turns ${count(turns[0].seq)} – ${count(turns.at(-1).seq)} of ${count(last)}` : `${count(last)} turns`;
  const link = (text, target, isOn) => isOn
    ? el("a", { class: "button", href: target }, text)
    : el("a", { class: "button", role: "link", "aria-disabled": "true" }, text);
  const jump = el("input", { type: "number", min: 1, max: Math.max(1, last), inputMode: "numeric", "aria-label": "Go to turn", placeholder: "turn" });
  return el("nav", { class: "steps", "aria-label": isBelow ? "Pages, below" : "Pages" },
    link("First", go(0), after > 0),
    // with filters, how far back a page reaches is not known: the browser's history does
    isFiltered
      ? el("button", { type: "button", disabled: after === 0, onclick: () => history.back() }, "Earlier")
      : link("Earlier", go(Math.max(0, after - PAGE)), after > 0),
    el("span", { class: "muted" }, range),
    link("Later", go(next ?? 0), next !== null),
    link("Newest", go(Math.max(0, last - PAGE)), !isFiltered && next !== null),
    isBelow ? null : el("form", { class: "jump", onsubmit: (event) => {
      event.preventDefault();
      if (jump.value) location.hash = linkTo(labels, "timeline", given({ ...chosen, all: all ? "true" : "", after: Math.max(0, jump.value - 1) || "" }));
    } }, jump, el("button", { type: "submit" }, "Go")),
  );
}

function nothing(isFiltered, after) {
  return el("p", { class: "empty card" },
    isFiltered ? "No turn meets all filters." : after ? "There is no turn behind this one." : "This memory has no turns.");
}

// Turns of one session stand below its heading, as long as no other comes in between.
function sessions(turns, actionOf) {
  const groups = [];
  for (const turn of turns) {
    if (!groups.length || groups.at(-1).session !== turn.session) groups.push({ session: turn.session, turns: [] });
    groups.at(-1).turns.push(turn);
  }
  return el("div", {}, groups.map(({ session, turns: own }) => el("section", { class: "session" },
    el("h2", {}, session ?? "No session", el("span", { class: "muted" }, ` · ${dayOf(own[0].time)}`)),
    el("ol", { class: "turns" }, own.map((turn) => el("li", {},
      turnCard({ ...turn, session: null }, { actions: actionOf(turn), className: turn.replaced_by ? "is-replaced" : "" })))))));
}

function action(turn, { about, api, load }) {
  const mayPurge = about.key.rights.includes("forget") && !about.read_only;
  return [el("button", { type: "button", class: "quiet", "aria-label": `${mayPurge ? "Purge" : "Influence"} of turn ${turn.seq}`,
    onclick: () => openPurge({ about, api, id: turn.id, onPurged: load }) }, mayPurge ? "Purge …" : "Influence")];
}
