// Requests to the service, with the key of whoever looks. The key is kept for this tab only, and is
// sent in a header, never in an address.

import { joinName } from "./names.js";

const STORED = "evomem-key";

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const setKey = (key) => (key ? sessionStorage.setItem(STORED, key) : sessionStorage.removeItem(STORED));
export const hasKey = () => sessionStorage.getItem(STORED) !== null;

export async function call(path, { method = "GET", query = {}, body, key, signal } = {}) {
  const address = new URL(path, document.baseURI);
  address.hash = "";
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") address.searchParams.set(name, value);
  }
  const headers = {};
  const secret = key ?? sessionStorage.getItem(STORED);
  if (secret) headers.Authorization = `Bearer ${secret}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address, {
      method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit", cache: "no-store", redirect: "error", referrerPolicy: "no-referrer",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "The service does not answer. Is it still running?");
  }
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, value.detail ?? `The service answered ${response.status}.`);
  return value;
}

const memoryPath = (labels) => `v1/memories/${encodeURIComponent(joinName(labels))}`;

// The endpoints of one memory; requests end with the view that made them.
export function memoryApi(labels, signal) {
  const base = memoryPath(labels);
  const turn = (id) => `${base}/turns/${encodeURIComponent(id)}`;
  return {
    labels,
    overview: () => call(`${base}/inspect`, { signal }),
    turns: (query) => call(`${base}/turns`, { query, signal }),
    replaced: (query) => call(`${base}/inspect/replaced`, { query, signal }),
    search: (body, own = signal) => call(`${base}/search`, { method: "POST", body, signal: own }),
    alone: (body, own = signal) => call(`${base}/inspect/alone`, { method: "POST", body, signal: own }),
    map: (body) => call(`${base}/inspect/map`, { method: "POST", body, signal }),
    preview: (id) => call(`${turn(id)}/purge`, { signal }),
    purge: (id, forks) => call(`${turn(id)}/purge`, { method: "POST", body: { forks } }),
  };
}
