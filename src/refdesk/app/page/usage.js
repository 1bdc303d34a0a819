// What answers have used, and what is left: one's own, and everybody's for those who run the desk.

import { request, requestJson } from "./api.js";
import { seconds } from "./format.js";
import { saveBlob } from "./handing_out.js";
import { may } from "./me.js";
import { make } from "./page.js";
import { cell, datum, figure, row } from "./plots.js";
import { attempt } from "./text.js";
import { t } from "./texts.js";

const PATH = "/api/usage";
const NUMBERS = ["answers", "shared", "input_tokens", "output_tokens", "cost"];

export class View {
  #problem = document.getElementById("usage-problem");
  #form = document.getElementById("usage-choice");
  #rows = document.getElementById("usage-rows");
  #more = document.getElementById("usage-more");
  #cursor = null;
  #asked = 0;

  start() {
    this.#form.addEventListener("change", () => attempt(this.#problem, () => this.#load(null)));
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#more.addEventListener("click", () => attempt(this.#problem, () => this.#load(this.#cursor)));
    document.getElementById("usage-csv").addEventListener("click", () => attempt(this.#problem, () => this.#download()));
  }

  async enter() {
    await attempt(this.#problem, () => this.#load(null));
    await this.#offerMore();
  }

  /** Links to what else is open to the caller, and everybody's usage where that is. */
  async #offerMore() {
    const links = document.getElementById("usage-links");
    for (const link of links.children) link.hidden = !(await may(link.dataset.needs));
    links.hidden = [...links.children].every((link) => link.hidden);
    this.#form.elements.of.querySelector('[value="everybody"]').disabled = !(await may("usage.read_all"));
  }

  #query() {
    const chosen = [...new FormData(this.#form)].filter(([, value]) => value);
    return new URLSearchParams(chosen);
  }

  async #load(cursor) {
    const query = this.#query();
    if (cursor) query.set("cursor", cursor);
    const own = ++this.#asked;
    const page = await requestJson(`${PATH}?${query}`);
    if (own !== this.#asked) return; // something else was chosen meanwhile
    const keys = query.get("by").split(",");
    const rows = page.rows.map((one) => usageRow(one, keys, page.currency));
    if (cursor) this.#rows.append(...rows);
    else this.#rows.replaceChildren(...rows);
    document.getElementById("usage-head").replaceChildren(headRow(keys));
    document.getElementById("usage-empty").hidden = this.#rows.children.length > 0;
    this.#cursor = page.next_cursor;
    this.#more.hidden = !page.next_cursor;
    if (!cursor) showLeft(page);
  }

  async #download() {
    const response = await request(`${PATH}.csv?${this.#query()}`);
    saveBlob(await response.blob(), "usage.csv");
  }
}

function headRow(keys) {
  const head = row("th", keys.map((key) => t(`usage_column.${key}`)), { scope: "col" });
  head.append(...NUMBERS.map((name) => cell("th", t(`usage_column.${name}`), { scope: "col", class: "number" })));
  return head;
}

function usageRow(one, keys, currency) {
  const element = row("td", []);
  element.append(...keys.map((key, place) => cell(place ? "td" : "th", keyText(one, key), place ? {} : { scope: "row" })));
  for (const name of NUMBERS) {
    const place = cell("td", "", { class: "number" });
    place.append(datum(one[name], name === "cost" ? "cost" : "tokens", currency));
    element.append(place);
  }
  return element;
}

function keyText(one, key) {
  if (key === "principal") return one.principal || one.principal_id || "–";
  return one[key] || "–";
}

function showLeft({ left, currency }) {
  document.getElementById("usage-left-part").hidden = !left?.length;
  document.getElementById("usage-left").replaceChildren(...(left ?? []).map((one) => {
    const unit = one.window.startsWith("cost") ? "cost" : "tokens";
    const shown = (value) => figure(value, unit, currency);
    const window = t(`window.${one.window}`);
    const values = { left: shown(one.left), limit: shown(one.limit), window, group: one.group, wait: seconds(one.resets_in_seconds) };
    return make("li", "", t(one.group ? "usage.left_group" : "usage.left", values));
  }));
}
