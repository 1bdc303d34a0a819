// Who did what, and what came of it: the audit log, for administrators.

import { request, requestJson } from "./api.js";
import { moment } from "./format.js";
import { saveBlob } from "./handing_out.js";
import { make } from "./page.js";
import { cell, row } from "./plots.js";
import { attempt } from "./text.js";
import { t } from "./texts.js";

const PATH = "/api/audit";
const TIMES = ["from", "to"];
const LEVELS = { denied: "degraded", failed: "unavailable" };

export class View {
  #problem = document.getElementById("audit-problem");
  #form = document.getElementById("audit-choice");
  #rows = document.getElementById("audit-rows");
  #more = document.getElementById("audit-more");
  #cursor = null;
  #asked = 0;

  start() {
    this.#form.addEventListener("change", () => this.#show());
    this.#form.addEventListener("submit", (event) => { event.preventDefault(); this.#show(); });
    this.#form.addEventListener("reset", () => setTimeout(() => this.#show())); // once the fields are empty
    this.#rows.addEventListener("click", ({ target }) => target.dataset.filter && this.#narrow(target.dataset));
    this.#more.addEventListener("click", () => attempt(this.#problem, () => this.#load(this.#cursor)));
    document.getElementById("audit-csv").addEventListener("click", () => attempt(this.#problem, () => this.#download()));
  }

  enter() {
    return this.#show();
  }

  #show() {
    return attempt(this.#problem, () => this.#load(null));
  }

  #narrow({ filter, value }) {
    this.#form.elements[filter].value = value;
    this.#show();
  }

  #query() {
    const chosen = [...new FormData(this.#form)].filter(([, value]) => value.trim());
    return new URLSearchParams(chosen.map(([name, value]) => [name, TIMES.includes(name) ? new Date(value).toISOString() : value.trim()]));
  }

  async #load(cursor) {
    const query = this.#query();
    if (cursor) query.set("cursor", cursor);
    const own = ++this.#asked;
    const page = await requestJson(`${PATH}?${query}`);
    if (own !== this.#asked) return; // something else was chosen meanwhile
    const rows = page.entries.map(entryRow);
    if (cursor) this.#rows.append(...rows);
    else this.#rows.replaceChildren(...rows);
    document.getElementById("audit-empty").hidden = this.#rows.children.length > 0;
    this.#cursor = page.next_cursor;
    this.#more.hidden = !page.next_cursor;
  }

  async #download() {
    const response = await request(`${PATH}.csv?${this.#query()}`);
    saveBlob(await response.blob(), "audit.csv");
  }
}

function entryRow(entry) {
  const element = row("td", []);
  element.dataset.testid = "audit-entry";
  const result = cell("td", t(`result.${entry.result}`));
  if (entry.result in LEVELS) result.dataset.level = LEVELS[entry.result];
  element.append(
    cell("th", moment(entry.at), { scope: "row", title: entry.at }),
    filtering("principal", entry.principal_id, entry.principal_name || entry.principal_id),
    filtering("action", entry.action, entry.action, entry.did),
    filtering("object", entry.object_id, entry.object_id),
    result,
    cell("td", entry.address || "–"),
  );
  return element;
}

/** A cell whose text, when it is pressed, leaves only what is like it; ``more`` stands behind it. */
function filtering(filter, value, text, more = "") {
  const place = cell("td", value ? "" : "–");
  if (!value) return place;
  const button = make("button", "quiet", text);
  button.type = "button";
  Object.assign(button.dataset, { filter, value });
  place.append(button);
  if (more) place.append(make("span", "small", ` ${more}`));
  return place;
}
