// A plot as small SVG of our own, and the same as a table. What it draws are the service's numbers.

import { PLACE } from "./format.js";
import { make, part, stamp } from "./page.js";
import { write } from "./text.js";
import { language, t } from "./texts.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 360;
const HEIGHT = 130;
const LEFT = 44;
const BOTTOM = 18;
const TONES = 6;
const DRAWN_MAX = 240;
const TABLED_MAX = 60;
const ADDED = new Set(["count"]);
const WHOLE = { maximumFractionDigits: 0 };
const HUNDREDTHS = { minimumFractionDigits: 2, maximumFractionDigits: 2 };

/** A number with its unit, for people. */
export function figure(value, unit, currency = "") {
  if (value === null || value === undefined) return "–";
  if (unit === "seconds" && value > 0 && value < 0.1) return `${written(value * 1000, { maximumSignificantDigits: 2 })} ms`;
  if (unit === "seconds") return `${written(value, value < 10 ? HUNDREDTHS : WHOLE)} s`;
  if (unit === "bytes") return `${written(value / 1e6, WHOLE)} MB`;
  if (unit === "processors") return written(value, HUNDREDTHS);
  if (unit === "cost") return `${written(value, { maximumFractionDigits: value < 1 ? 6 : 2 })} ${currency}`.trim();
  return written(value, { maximumFractionDigits: 1 });
}

function written(value, digits) {
  return value.toLocaleString(language, digits);
}

/** An element that shows the number, and holds it exactly. */
export function datum(value, unit, currency) {
  const element = document.createElement("data");
  element.value = value === null || value === undefined ? "" : String(value);
  element.textContent = figure(value, unit, currency);
  return element;
}

/** The figure element of a plot; fill it with `draw`. */
export function plotElement(view) {
  const element = stamp("plot-template");
  element.dataset.metric = view.metric;
  write(part(element, "title"), titleOf(view));
  part(element, "region").setAttribute("aria-label", t("plots.table_of", { title: titleOf(view) }));
  return element;
}

/** What is said above the drawing: the figures of now. */
export function sayNow(element, view, currency) {
  const lines = Object.entries(view.now);
  const said = lines.flatMap(([line, value], place) => [
    ...(place ? [" · "] : []),
    ...(lines.length > 1 || ![view.metric, currency].includes(line) ? [`${line} `] : []),
    datum(value, view.unit, currency),
  ]);
  const when = t(["count", "histogram"].includes(view.kind) ? "plots.recent" : "plots.now");
  part(element, "now").replaceChildren(...(said.length ? [...said, ` ${when}`] : [t("plots.empty")]));
}

function titleOf({ metric }) {
  return t(`plot.${metric}`);
}

/** Draw the history: lines over time, with gaps where nothing is known. */
export function draw(element, history, currency) {
  const now = Date.now() / 1000;
  const points = thinned(history, DRAWN_MAX);
  const names = [...new Set(points.flatMap((point) => Object.keys(point.values)))].sort();
  const top = niceTop(Math.max(0, ...points.flatMap((point) => Object.values(point.values).filter((value) => value !== null))));
  const scale = {
    x: (at) => LEFT + ((at - (now - history.range_seconds)) / history.range_seconds) * (WIDTH - LEFT),
    y: (value) => (HEIGHT - BOTTOM) * (1 - value / top) + 4,
  };
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT + 6}`, role: "img", "aria-label": summary(history, names, points, currency) });
  svg.append(...axes(history, scale, top, now, currency), ...names.flatMap((name, tone) => line(points, name, tone, scale)));
  part(element, "drawing").replaceChildren(svg, legend(names, history));
  const details = part(element, "details");
  details.ontoggle = () => details.open && fillTable(part(element, "table"), history, names, currency);
  if (details.open) details.ontoggle();
}

function axes(history, scale, top, now, currency) {
  const rows = [0, top / 2, top].flatMap((value) => [
    shape("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: scale.y(value), y2: scale.y(value) }),
    label(LEFT - 5, scale.y(value) + 4, "end", figure(value, history.unit, currency)),
  ]);
  const begin = new Date((now - history.range_seconds) * 1000);
  return [...rows, label(LEFT, HEIGHT + 4, "start", timeOf(begin, history)), label(WIDTH, HEIGHT + 4, "end", t("plots.now"))];
}

function line(points, name, tone, scale) {
  const pieces = [];
  let last = null;
  for (const point of points) {
    const value = point.values[name];
    if (value === undefined || value === null) continue;
    const joins = last !== null && point.at - last <= 2.5 * point.step;
    if (!joins) pieces.push([]);
    pieces.at(-1).push([scale.x(point.at + point.step / 2), scale.y(value)]);
    last = point.at;
  }
  return pieces.map((piece) =>
    piece.length === 1
      ? shape("circle", { class: `dot tone-${tone % TONES}`, cx: piece[0][0].toFixed(1), cy: piece[0][1].toFixed(1), r: 1.75 })
      : shape("path", { class: `line tone-${tone % TONES}`, d: `M${piece.map((place) => place.map((n) => n.toFixed(1)).join(" ")).join("L")}` }),
  );
}

function legend(names, history) {
  const list = make("ul", "legend");
  if (names.length === 1 && names[0] === history.metric) return list;
  list.append(...names.map((name, tone) => {
    const entry = make("li", "");
    entry.append(make("span", `swatch tone-${tone % TONES}`), make("span", "", name));
    return entry;
  }));
  return list;
}

function summary(history, names, points, currency) {
  if (!names.length) return t("plots.empty_of", { title: titleOf(history) });
  const said = names.slice(0, 6).map((name) => {
    const values = points.map((point) => point.values[name]).filter((value) => value !== undefined && value !== null);
    const most = values.length ? figure(Math.max(...values), history.unit, currency) : t("plots.nothing");
    const latest = values.length ? figure(values.at(-1), history.unit, currency) : t("plots.nothing");
    return `${name === history.metric ? "" : `${name}: `}${t("plots.line", { most, latest })}`;
  });
  return t("plots.summary", { title: titleOf(history), lines: said.join("; ") });
}

function fillTable(table, history, names, currency) {
  const head = document.createElement("thead");
  head.append(row("th", [t("list.time"), ...names], { scope: "col" }));
  const body = document.createElement("tbody");
  for (const point of thinned(history, TABLED_MAX).reverse()) {
    const each = row("td", []);
    each.append(cell("th", timeOf(new Date(point.at * 1000), history), { scope: "row" }));
    for (const name of names) {
      const place = cell("td", "", { class: "number" });
      place.append(datum(point.values[name], history.unit, currency));
      each.append(place);
    }
    body.append(each);
  }
  table.replaceChildren(head, body);
}

/** At most so many points: neighbours together, counts as their sum, others as the largest. */
function thinned(history, most) {
  const step = history.step_seconds * Math.max(1, Math.ceil(history.range_seconds / history.step_seconds / most));
  const groups = new Map();
  for (const { at, values } of history.points) {
    const begun = Math.floor(new Date(at).getTime() / 1000 / step) * step;
    if (!groups.has(begun)) groups.set(begun, {});
    const together = groups.get(begun);
    for (const [name, value] of Object.entries(values)) {
      if (value === null) together[name] ??= null;
      else if (ADDED.has(history.kind)) together[name] = (together[name] ?? 0) + value;
      else together[name] = Math.max(together[name] ?? value, value);
    }
  }
  return [...groups].map(([at, values]) => ({ at, values, step }));
}

/** A round number at or above. */
function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= value * 0.999);
}

function timeOf(date, history) {
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return history.range_seconds <= 86400
    ? date.toLocaleTimeString(PLACE, time)
    : date.toLocaleString(PLACE, { ...time, day: "numeric", month: "short" });
}

function shape(name, attributes) {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function label(x, y, anchor, text) {
  const element = shape("text", { x, y, "text-anchor": anchor, "aria-hidden": "true" });
  element.textContent = text;
  return element;
}

/** A table row of such cells. */
export function row(kind, texts, attributes = {}) {
  const element = document.createElement("tr");
  element.append(...texts.map((text) => cell(kind, text, attributes)));
  return element;
}

export function cell(kind, text, attributes = {}) {
  const element = make(kind, attributes.class ?? "", text);
  for (const [key, value] of Object.entries(attributes)) if (key !== "class") element.setAttribute(key, value);
  return element;
}
