// One query, three ways: now, as of any turn, and without memory.

import { announce, debounce, el, field, fill, moment, problem, select } from "../dom.js";
import { linkTo } from "../names.js";
import { bars, legend, written } from "../parts.js";
import { excerpt, longText } from "../turns.js";

const PAUSE = 200; // ms after which a slider that moves is taken to stand

export async function showSearch({ about, api, overview, place, signal, values, labels }) {
  const last = overview.last;
  const state = {
    query: values.get("q") ?? "",
    k: Number(values.get("k")) || 5,
    mode: values.get("mode") ?? "hybrid",
    at: Math.min(last, Math.max(1, Number(values.get("at")) || Math.ceil(last / 2))),
  };
  const remembers = about.encoder.capacity > 0;
  const columns = {
    now: column("Now", `after turn ${last}`),
    then: column("As of", `turn ${state.at}`),
    alone: remembers
      ? column("Without memory", "every text read as the first one ever")
      : column("Vectors alone", "this encoder has no memory of order"),
  };
  const found = {};
  const draw = () => drawAll(columns, found);
  const keep = () => history.replaceState(null, "", linkTo(labels, "search", {
    q: state.query, at: state.at, ...(state.k !== 5 && { k: state.k }), ...(state.mode !== "hybrid" && { mode: state.mode }),
  }));
  const body = () => ({ query: state.query, k: state.k, mode: state.mode });
  let running = null;

  const ask = async (name, request) => {
    const { list } = columns[name];
    list.setAttribute("aria-busy", "true");
    try {
      found[name] = await request();
      draw();
    } catch (error) {
      if (error.name !== "AbortError") list.replaceChildren(problem(error));
    } finally {
      list.removeAttribute("aria-busy");
    }
  };
  const askThen = () => {
    running?.abort();
    running = new AbortController();
    signal.addEventListener("abort", () => running.abort(), { once: true });
    return ask("then", () => api.search({ ...body(), at: state.at }, running.signal));
  };
  const askAll = async () => {
    if (!state.query) return;
    keep();
    results.hidden = false;
    await Promise.all([
      ask("now", () => api.search(body())),
      askThen(),
      ask("alone", () => (remembers ? api.alone(body()) : api.search({ ...body(), mode: "evolvable" }))),
    ]);
    if (found.now) announce(`${found.now.hits.length} hits now, ${found.then?.hits.length ?? 0} as of turn ${state.at}`);
  };

  const { slider, setTime } = timeSlider(state, last, (at) => {
    columns.then.note.textContent = `turn ${at}`;
    if (state.query) { keep(); moved(); }
    whenOf(api, at).then((time) => setTime(time), () => setTime(null));
  });
  const moved = debounce(askThen, PAUSE);
  const results = el("div", { hidden: true },
    slider,
    el("div", { class: "columns" }, columns.now.section, columns.then.section, columns.alone.section),
    legend());
  place.replaceChildren(form(state, askAll), last ? results : el("p", { class: "empty card" }, "This memory has no turns."));
  if (last) whenOf(api, state.at).then((time) => setTime(time), () => setTime(null));
  await askAll();
}

async function whenOf(api, at) {
  const { turns } = await api.turns({ after: at - 1, limit: 1, at });
  return turns[0]?.time ?? null;
}

function form(state, askAll) {
  const query = el("input", { type: "search", value: state.query, required: true, autocomplete: "off", enterKeyHint: "search" });
  const k = select([["3", "3"], ["5", "5"], ["10", "10"], ["20", "20"]], String(state.k));
  const mode = select([["hybrid", "hybrid"], ["evolvable", "vectors alone"], ["lexical", "words alone"]], state.mode);
  return el("form", { class: "filters ask", role: "search", "aria-label": "Search this memory", onsubmit: (event) => {
    event.preventDefault();
    Object.assign(state, { query: query.value.trim(), k: Number(k.value), mode: mode.value });
    askAll();
  } },
    field("Question", query), field("Hits", k), field("Ranking", mode),
    el("div", { class: "buttons" }, el("button", { type: "submit", class: "primary" }, "Search")));
}

function timeSlider(state, last, onMove) {
  const range = el("input", { type: "range", min: 1, max: Math.max(1, last), value: state.at, id: "at" });
  const number = el("input", { type: "number", min: 1, max: Math.max(1, last), value: state.at, "aria-label": "Turn", inputMode: "numeric" });
  const time = el("span", { class: "muted when" });
  const move = (value) => {
    state.at = Math.min(last, Math.max(1, Math.round(Number(value)) || 1));
    range.value = state.at;
    range.setAttribute("aria-valuetext", `turn ${state.at}`);
    if (document.activeElement !== number) number.value = state.at;
    onMove(state.at);
  };
  range.addEventListener("input", () => move(range.value));
  number.addEventListener("input", () => number.value && move(number.value));
  return {
    slider: el("div", { class: "card slider" },
      el("label", { htmlFor: "at" }, "Time slider: the memory as of turn"), number, time, range),
    setTime: (iso) => time.replaceChildren(...(iso ? ["said ", moment(iso)] : [])),
  };
}

function column(title, text) {
  const note = el("span", { class: "muted" }, text);
  const list = el("div", { class: "hits" });
  return { note, list, section: el("section", { class: "column", "aria-label": title }, el("h2", {}, `${title} `, note), list) };
}

function drawAll(columns, found) {
  const all = Object.values(found).flatMap(({ hits }) => hits);
  const scale = Math.max(...all.map((hit) => Object.values(hit.parts).reduce((sum, part) => sum + Math.max(0, part), 0)), 1e-9);
  const ranks = new Map((found.now?.hits ?? []).map((hit, place) => [hit.id, place + 1]));
  for (const [name, { list }] of Object.entries(columns)) {
    if (!found[name]) continue;
    const { hits, compared } = found[name];
    list.replaceChildren(
      hits.length ? el("ol", {}, hits.map((hit, place) => el("li", {}, hitCard(hit, place + 1, scale, name === "now" ? null : ranks))))
        : el("p", { class: "empty" }, "Nothing was found."),
      ...(compared && found.alone.remembers ? [el("p", { class: "muted small" }, `${compared} turns were read alone and compared.`)] : []));
  }
}

function hitCard(hit, rank, scale, ranks) {
  const now = ranks?.get(hit.id);
  const change = !ranks ? null
    : now === undefined ? el("span", { class: "badge new" }, "not among the hits now")
      : now === rank ? el("span", { class: "badge" }, "same place now")
        : el("span", { class: "badge moved" }, `${ordinal(now)} now`);
  return el("article", { class: "hit" },
    el("header", {}, el("span", { class: "rank" }, String(rank)), el("b", {}, `Turn ${hit.seq}`), moment(hit.time),
      el("span", { class: "score" }, written(hit.score))),
    longText(hit.user || hit.assistant, "p", 180),
    hit.user && hit.assistant ? el("p", { class: "reply-line" }, excerpt({ user: hit.assistant }, 110)) : null,
    bars(hit, scale),
    hit.replaced.map((old) => el("p", { class: "note" }, `Took the place of turn ${old.seq}: ${excerpt(old)}`)),
    change);
}

const ordinal = (number) => `${number}${["th", "st", "nd", "rd"][number % 100 > 10 && number % 100 < 14 ? 0 : Math.min(4, number % 10) % 4]}`;
