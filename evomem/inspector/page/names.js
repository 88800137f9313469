// Names of memories, as in evomem/service/names.py: labels joined by slashes.

const escaped = (label) =>
  label === "." || label === ".."
    ? label.replaceAll(".", "%2E")
    : label.replaceAll("%", "%25").replaceAll("/", "%2F");

export const joinName = (labels) => labels.map(escaped).join("/");
export const splitName = (name) => (name ? name.split("/").map(decodeURIComponent) : []);
export const shownName = (labels) => (labels.length ? labels.join(" / ") : "all memories");
export const linkTo = (labels, view = "timeline", values = {}) => {
  const query = new URLSearchParams(values).toString();
  return `#/m/${encodeURIComponent(joinName(labels))}/${view}${query ? `?${query}` : ""}`;
};
