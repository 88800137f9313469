// Elements are only made here. Texts become text nodes, so nothing that is stored is ever markup.

export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name in made && !name.startsWith("aria") && name !== "list" && name !== "role") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

let numbers = 0;
export const newId = (stem) => `${stem}-${++numbers}`;

export function announce(text) {
  document.getElementById("status").textContent = text;
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const MINUTE = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit",
});

export const dayOf = (iso) => DAY.format(new Date(iso));
export const count = (number) => number.toLocaleString("en-US");
export const turnsOf = (number) => `${count(number)} turn${number === 1 ? "" : "s"}`;

export function moment(iso) {
  return el("time", { dateTime: iso, title: iso }, MINUTE.format(new Date(iso)));
}

export function field(label, control, hint = "") {
  control.id ||= newId("field");
  const note = hint ? el("small", { id: `${control.id}-hint` }, hint) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return el("div", { class: "field" }, el("label", { htmlFor: control.id }, label), control, note);
}

export function select(options, value) {
  return el("select", {}, options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)));
}

export function problem(error) {
  return el("p", { class: "problem", role: "alert" }, error.message);
}

export function waiting(text = "Loading …") {
  return el("p", { class: "waiting" }, text);
}

// Fills a place with what `work` returns; meanwhile it says so, and afterwards why it failed.
export async function fill(place, work, text) {
  place.setAttribute("aria-busy", "true");
  if (text !== null) place.replaceChildren(waiting(text));
  try {
    const content = await work();
    place.replaceChildren(...[content].flat().filter(Boolean));
  } catch (error) {
    if (error.name === "AbortError") return;
    place.replaceChildren(problem(error));
  } finally {
    place.removeAttribute("aria-busy");
  }
}

export function debounce(call, delay) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), delay);
  };
}
