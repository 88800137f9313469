// The database as a whole: its size, its encoder, its digests and whether they hold.

import { call } from "../api.js";
import { announce, count, el, fill, problem } from "../dom.js";

export async function showDatabase({ about, main, signal }) {
  const state = el("div", {});
  const anchor = el("div", {});
  main.replaceChildren(el("h1", {}, "Database"), verification(signal), el("section", { class: "card" },
    el("h2", {}, "Anchor"),
    el("p", { class: "muted" }, "An anchor tells this state from every earlier one. Keep it where nobody who can write to the ",
      "database can; checked against it, an older copy or a shortened log is noticed."), anchor),
  el("section", { class: "card" }, el("h2", {}, "Size and encoder"), state));
  await Promise.all([
    fill(state, async () => table(flat({ ...(await call("v1/admin/stats", { signal })), ...encoder(about) }))),
    fill(anchor, async () => anchorOf(await call("v1/admin/anchor", { signal }))),
  ]);
}

const encoder = ({ encoder: { name, dim, latents, capacity, dtype } }) => ({
  encoder: name, "embedding length": dim, "latents a turn": latents, "latents in the queue": capacity, precision: dtype,
});

function flat(values, prefix = "") {
  return Object.entries(values).flatMap(([name, value]) => {
    if (value === null) return [];
    if (Array.isArray(value)) return [[prefix + name, `${count(value.length)}`]];
    return typeof value === "object" ? flat(value, `${prefix}${name} `) : [[prefix + name, value]];
  });
}

function table(rows) {
  return el("div", { class: "scroll" }, el("table", { class: "plain" }, el("tbody", {}, rows.map(([name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, name.replaceAll("_", " ")),
      el("td", {}, typeof value !== "number" ? String(value) : name.endsWith("bytes") ? size(value) : count(value)))))));
}

const size = (bytes) => (bytes < 1 << 20 ? `${count(Math.ceil(bytes / 1024))} KiB` : `${count(Math.round(bytes / (1 << 20)))} MiB`);

function anchorOf({ key_id: key, anchor }) {
  const text = JSON.stringify(anchor, null, 2);
  return [
    el("p", {}, key ? ["Sealed with the integrity key ", el("code", {}, key), "."]
      : "Not sealed: without an integrity key, whoever can write to the file can also compute its digests."),
    el("details", {}, el("summary", {}, "Show the anchor"), el("pre", { tabIndex: 0 }, text)),
    el("a", { class: "button", download: "evomem.anchor", href: URL.createObjectURL(new Blob([text], { type: "application/json" })) }, "Save the anchor"),
  ];
}

function verification(signal) {
  const result = el("div", { "aria-live": "polite" });
  const file = el("input", { type: "file", id: "anchor-file", accept: ".anchor,.json,application/json" });
  const button = el("button", { type: "submit", class: "primary" }, "Verify");
  return el("section", { class: "card" },
    el("h2", {}, "Digests and seals"),
    el("p", { class: "muted" }, "Reads every row, and checks its digest, its seal, the words index and the vector files."),
    el("form", { class: "filters", onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      await fill(result, async () => {
        const anchor = file.files.length ? JSON.parse(await file.files[0].text()) : null;
        return outcome(await call("v1/admin/verify", { method: "POST", body: { anchor }, signal }), anchor);
      }, "Reading every row …");
      button.disabled = false;
    } },
      el("div", { class: "field" }, el("label", { htmlFor: "anchor-file" }, "Continue from an anchor (optional)"), file),
      el("div", { class: "buttons" }, button)),
    result);
}

function outcome({ faults }, anchor) {
  const text = faults.length ? `${count(faults.length)} fault${faults.length === 1 ? "" : "s"}` : "No faults";
  announce(text);
  return faults.length
    ? [problem({ message: text }), el("ul", {}, faults.map((fault) => el("li", {}, fault)))]
    : el("p", { class: "good" }, anchor ? "No faults: every digest holds, and the log continues the anchor." : "No faults: every digest holds.");
}
