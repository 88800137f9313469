// The similarity map: how close a query is to each turn, as the story goes on.

import { announce, el, field, fill } from "../dom.js";
import { linkTo } from "../names.js";
import { excerpt } from "../turns.js";

export async function showMap({ api, place, values, labels }) {
  const query = el("input", { type: "search", value: values.get("q") ?? "", required: true, autocomplete: "off", enterKeyHint: "search" });
  const result = el("div", {});
  const load = () => fill(result, async () => content(await api.map({
    query: query.value.trim(), points: innerWidth < 720 ? 24 : 48, turns: 32,
  })), "Asking at every point of the story …");
  place.replaceChildren(
    el("form", { class: "filters ask", role: "search", "aria-label": "Draw the map of a query", onsubmit: (event) => {
      event.preventDefault();
      history.replaceState(null, "", linkTo(labels, "map", { q: query.value.trim() }));
      load();
    } },
      field("Question", query),
      el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Draw"))),
    el("p", { class: "muted" }, "Each column asks the same question at a later point of the story; each row is a turn. ",
      "The stronger a cell, the closer the question is to the turn; the closest of a column has a frame."),
    result);
  if (query.value) await load();
}

function content({ points, turns, cosines }) {
  if (!turns.length) return el("p", { class: "empty card" }, "This memory has no turns.");
  const known = cosines.flat().filter((value) => value !== null);
  const [least, most] = [Math.min(...known), Math.max(...known)];
  const best = points.map((_, column) => {
    const values = cosines.map((row) => row[column] ?? -2);
    return values.indexOf(Math.max(...values));
  });
  const readout = el("p", { class: "readout", "aria-live": "polite" }, "Choose a cell with the pointer or the arrow keys.");
  const cells = [];
  const body = el("tbody", {}, turns.map((turn, row) => el("tr", {},
    el("th", { scope: "row" }, el("b", {}, `${turn.seq} `), el("span", {}, excerpt(turn, 70))),
    points.map((point, column) => {
      const value = cosines[row][column];
      const cell = el("td", { tabIndex: -1, class: value === null ? "none" : best[column] === row ? "best" : "",
        "aria-label": value === null ? "not said yet" : value.toFixed(2) });
      if (value !== null) cell.style.setProperty("--heat", String((value - least) / (most - least || 1)));
      (cells[row] ??= []).push(cell);
      return cell;
    }))));
  const tell = (row, column) => {
    const value = cosines[row][column];
    readout.textContent = value === null
      ? `As of turn ${points[column].seq}, turn ${turns[row].seq} had not been said.`
      : `As of turn ${points[column].seq}: ${value.toFixed(2)} to turn ${turns[row].seq}, ${excerpt(turns[row], 120)}`;
  };
  const placeOf = (cell) => {
    const row = cells.findIndex((own) => own.includes(cell));
    return row < 0 ? null : [row, cells[row].indexOf(cell)];
  };
  const table = el("table", { class: "heat" },
    el("caption", { class: "visually-hidden" }, "How close the question is to each turn, at each point"),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Turn"),
      points.map((point, number) => el("th", { scope: "col" },
        el("span", { class: number % 6 && number !== points.length - 1 ? "visually-hidden" : "" }, `${point.seq}`))))),
    body);
  let current = [turns.length - 1, points.length - 1];
  const focus = (row, column) => {
    cells[current[0]][current[1]].tabIndex = -1;
    current = [row, column];
    cells[row][column].tabIndex = 0;
    cells[row][column].focus();
  };
  cells[current[0]][current[1]].tabIndex = 0;
  body.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const at = step && placeOf(document.activeElement);
    if (!at) return;
    event.preventDefault();
    const limit = (value, size) => Math.max(0, Math.min(size - 1, value));
    focus(limit(at[0] + step[0], turns.length), limit(at[1] + step[1], points.length));
  });
  for (const kind of ["focusin", "pointerover"]) {
    body.addEventListener(kind, (event) => {
      const at = placeOf(event.target);
      if (at) tell(...at);
    });
  }
  announce(`A map of ${turns.length} turns at ${points.length} points`);
  return [readout,
    el("div", { class: "scroll card", tabIndex: 0, role: "region", "aria-label": "Similarity map" }, table),
    el("p", { class: "scale muted", "aria-hidden": "true" }, least.toFixed(2), el("span", { class: "ramp" }), most.toFixed(2))];
}
