// The access log: who did what in which memory, newest first; never what was said.

import { call } from "../api.js";
import { announce, count, el, fill, moment } from "../dom.js";
import { linkTo } from "../names.js";

const PAGE = 100;
const NEWEST = 2 ** 53 - 1;

export async function showAccess({ main, signal }) {
  const rows = el("tbody", {});
  const more = el("button", { type: "button" }, "Older");
  const place = el("div", {});
  let next = NEWEST;
  const load = async () => {
    const page = await call("v1/admin/access", { query: { before: next, limit: PAGE }, signal });
    rows.append(...page.lines.map(line));
    next = page.next;
    more.hidden = next === null;
    announce(`${count(rows.children.length)} lines`);
  };
  more.addEventListener("click", load);
  main.replaceChildren(el("h1", {}, "Access log"),
    el("p", { class: "muted" }, "Who did what, when, and with how many turns. No text and no question is ever in it."), place);
  await fill(place, async () => {
    await load();
    if (!rows.children.length) return el("p", { class: "empty card" }, "Nothing was asked yet.");
    return [el("div", { class: "scroll card" }, el("table", { class: "plain stacked log" },
      el("thead", {}, el("tr", {}, ["Time", "Key", "Action", "Memory", "Turns", "Status"].map((text) => el("th", { scope: "col" }, text)))),
      rows)), more];
  });
}

function line({ time, key, action, memory, count: turns, status }) {
  const cell = (name, ...content) => el("td", { "data-name": name }, content);
  const many = turns === 0 ? "nothing" : turns === 1 ? "one" : null; // on a phone, where there are no headings
  return el("tr", {},
    cell("Time", moment(time)), cell("Key", key ? el("code", {}, key) : "none"), cell("Action", action),
    memory.length ? cell("Memory", el("a", { href: linkTo(memory) }, memory.join(" / ")))
      : el("td", { class: "nothing" }, "–"),
    el("td", { "data-name": "Turns", class: many }, count(turns)),
    cell("Status", el("span", { class: `badge ${status < 400 ? "ok" : "gone"}` }, String(status))));
}
