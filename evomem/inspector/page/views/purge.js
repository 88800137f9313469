// What purging a turn would do, in a dialog, before it is done.

import { announce, count, el, fill, problem, turnsOf } from "../dom.js";
import { excerpt, turnCard } from "../turns.js";

export function openPurge({ about, api, id, onPurged }) {
  const body = el("div", {});
  let isPurged = false;
  const dialog = el("dialog", { class: "purge", "aria-labelledby": "purge-title", onclose: () => {
    dialog.remove();
    if (isPurged) onPurged();
  } },
    el("header", {},
      el("h2", { id: "purge-title" }, "What a purge would do"),
      el("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close")),
    body);
  document.body.append(dialog);
  dialog.showModal();
  const done = (receipt) => {
    isPurged = true;
    body.replaceChildren(...receiptOf(receipt));
    announce("The turn was purged");
  };
  fill(body, async () => content(await api.preview(id), { about, api, id, dialog, done }));
}

function content(preview, { about, api, id, dialog, done }) {
  const { turn, replaced, reread, direct, indirect, answers, forks, sharing } = preview;
  const mayPurge = about.key.rights.includes("forget") && !about.read_only;
  return [
    turnCard(turn, { heading: 3 }),
    el("dl", { class: "counts" },
      number(1 + replaced.length, "erased for good", replaced.length
        ? `with ${turnsOf(replaced.length)} whose place it took` : "its text, its vectors, its words in the index"),
      number(reread, "read again", "every later turn, as if this one had never been said"),
      number(direct.count, "read in its light", "turns that were encoded while it was in the queue"),
      number(answers.count, "answers with it", "turns whose prompt had it"),
    ),
    group("Answers that were written with it in the prompt", answers),
    group("Turns that were read with it in the queue", direct),
    group("Turns behind those, which it may have reached through others", indirect),
    forks.length ? el("p", { class: "note" }, `It is in ${forks.length === 1 ? "a fork" : "forks"} as well: `,
      forks.map((name) => name.join(" / ")).join(", "), ".") : null,
    mayPurge ? confirmation({ api, id, sharing, dialog, done }) : el("p", { class: "note" },
      about.read_only ? "Nothing can be changed here: evomem inspect was started without --write."
        : "This key has no right to forget."),
  ];
}

const number = (value, name, text) =>
  el("div", {}, el("dt", {}, name), el("dd", {}, el("b", {}, count(value)), el("small", {}, text)));

function group(title, { count: all, turns }) {
  if (!all) return null;
  const more = all - turns.length;
  return el("details", { open: turns.length <= 5 }, el("summary", {}, `${title} (${count(all)})`),
    el("ul", { class: "brief" }, turns.map((turn) => el("li", {}, el("b", {}, `${turn.seq} `), excerpt(turn))),
      more ? el("li", { class: "muted" }, `and ${count(more)} more`) : null));
}

function confirmation({ api, id, sharing, dialog, done }) {
  const withForks = el("input", { type: "checkbox", id: "with-forks" });
  const sure = el("input", { type: "checkbox", id: "sure" });
  const fault = el("div", {});
  const button = el("button", { type: "submit", class: "danger", disabled: true }, "Purge for good");
  const check = () => { button.disabled = !(sure.checked && (!sharing.length || withForks.checked)); };
  for (const box of [withForks, sure]) box.addEventListener("change", check);
  return el("form", { class: "confirm", onsubmit: async (event) => {
    event.preventDefault();
    button.disabled = true;
    button.textContent = "Purging …";
    try {
      done(await api.purge(id, sharing.length > 0));
    } catch (error) {
      fault.replaceChildren(problem(error));
      button.textContent = "Purge for good";
      check();
    }
  } },
    sharing.length ? el("div", { class: "check" }, withForks,
      el("label", { htmlFor: "with-forks" }, `purge it from ${sharing.map((name) => name.join(" / ")).join(", ")}, too`)) : null,
    el("div", { class: "check" }, sure, el("label", { htmlFor: "sure" }, "I know that this cannot be undone")),
    fault,
    el("div", { class: "buttons" }, button, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")),
  );
}

function receiptOf(receipt) {
  return [
    el("p", { class: "good" }, "The turn is forgotten."),
    el("dl", { class: "counts" },
      number(receipt.turns, "erased", receipt.memories.map((name) => name.join(" / ")).join(", ")),
      number(receipt.reread, "read again", "as if it had never been said"),
      el("div", {}, el("dt", {}, "on disk"), el("dd", {}, el("b", {}, receipt.clean ? "clean" : "not yet clean"),
        el("small", {}, receipt.clean ? "the text is in no file any more" : "the write-ahead log still has it until the next process opens the database")))),
  ];
}
