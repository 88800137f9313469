// Keys: who may do what where. New ones are shown once.

import { call } from "../api.js";
import { announce, el, field, fill, moment, problem } from "../dom.js";
import { joinName, shownName, splitName } from "../names.js";

const RIGHTS = { read: "search and list", write: "add, annotate, fork", forget: "delete and purge", admin: "keys and the access log" };

export async function showKeys({ about, main, signal }) {
  const list = el("div", {});
  const load = () => fill(list, async () => table((await call("v1/admin/keys", { signal })).keys, { about, load }));
  main.replaceChildren(el("h1", {}, "Keys"), about.read_only ? "" : creation(about, load), list);
  await load();
}

function stateOf(key) {
  if (key.revoked) return el("span", { class: "badge gone" }, "revoked ", moment(key.revoked));
  if (key.expires && new Date(key.expires) <= new Date()) return el("span", { class: "badge gone" }, "expired");
  return el("span", { class: "badge ok" }, key.expires ? ["until ", moment(key.expires)] : "valid");
}

function table(keys, { about, load }) {
  if (!keys.length) return el("p", { class: "empty card" }, "No key was made yet.");
  return el("div", { class: "scroll card" }, el("table", { class: "plain stacked" },
    el("thead", {}, el("tr", {}, ["Key", "For", "Rights", "State", "Last used", "Note", ""].map((text) =>
      el("th", { scope: "col" }, text || el("span", { class: "visually-hidden" }, "Actions"))))),
    el("tbody", {}, keys.map((key) => el("tr", {},
      cell("Key", el("code", {}, key.id)), cell("For", shownName(key.prefix)), cell("Rights", key.rights.join(", ")),
      cell("State", stateOf(key)), cell("Last used", key.used ? moment(key.used) : "never"), cell("Note", key.note || "–"),
      el("td", {}, key.revoked || about.read_only ? null : revocation(key, load)))))));
}

const cell = (name, ...content) => el("td", { "data-name": name }, content);

function revocation(key, load) {
  const place = el("span", {});
  const ask = el("button", { type: "button", class: "quiet", "aria-label": `Revoke the key ${key.id}`, onclick: () => {
    const yes = el("button", { type: "button", class: "danger", onclick: async () => {
      try {
        await call(`v1/admin/keys/${key.id}`, { method: "DELETE" });
        announce("The key is revoked");
        await load();
      } catch (error) {
        place.replaceChildren(problem(error));
      }
    } }, "Revoke for good");
    place.replaceChildren(yes, el("button", { type: "button", onclick: () => { place.replaceChildren(ask); ask.focus(); } }, "Cancel"));
    yes.focus();
  } }, "Revoke …");
  place.append(ask);
  return place;
}

function creation(about, load) {
  const prefix = el("input", { type: "text", value: joinName(about.key.prefix), autocomplete: "off", spellcheck: false });
  const note = el("input", { type: "text", maxLength: 512, autocomplete: "off" });
  const expires = el("input", { type: "date" });
  const boxes = Object.keys(RIGHTS).filter((right) => about.key.rights.includes(right)).map((right) =>
    [right, el("input", { type: "checkbox", id: `right-${right}`, checked: right === "read" })]);
  const result = el("div", { "aria-live": "polite" });
  return el("details", { class: "card" }, el("summary", {}, "Make a key"),
    el("form", { class: "filters", onsubmit: async (event) => {
      event.preventDefault();
      try {
        const made = await call("v1/admin/keys", { method: "POST", body: {
          prefix: splitName(prefix.value.trim()), note: note.value.trim(),
          rights: boxes.filter(([, box]) => box.checked).map(([right]) => right),
          expires: expires.value ? new Date(`${expires.value}T23:59:59`).toISOString() : null,
        } });
        result.replaceChildren(secretOf(made.key));
        await load();
      } catch (error) {
        result.replaceChildren(problem(error));
      }
    } },
      field("For memories below", prefix, "Labels joined by slashes; empty for all"),
      el("fieldset", {}, el("legend", {}, "Rights"), boxes.map(([right, box]) => el("div", { class: "check" }, box,
        el("label", { htmlFor: box.id }, el("b", {}, right), ` ${RIGHTS[right]}`)))),
      field("Until", expires), field("Note", note),
      el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Make the key"))),
    result);
}

function secretOf(secret) {
  const shown = el("input", { type: "text", readOnly: true, value: secret, class: "secret", onfocus: () => shown.select() });
  const copy = el("button", { type: "button", onclick: async () => {
    await navigator.clipboard.writeText(secret);
    announce("Copied");
  } }, "Copy");
  return el("div", { class: "note" }, field("The new key, shown this once", shown), copy);
}
