// What could not be indexed: read, tried again or put away. For administrators.

import { request, requestJson } from "./api.js";
import { joined, moment } from "./format.js";
import { announce, part, passageHash, stamp } from "./page.js";
import { attempt, write, writeOrHide } from "./text.js";
import { t } from "./texts.js";

const PATH = "/api/dead-letters";
const PAGE_SIZE = 50;

/** How many are open; 0 for whoever may not know of them. */
export async function openDeadLetters() {
  const page = await requestJson(`${PATH}?limit=1`).catch(() => ({ open: 0 }));
  return page.open;
}

export class View {
  #list = document.getElementById("dead-letters");
  #more = document.getElementById("more-dead-letters");
  #retryAll = document.getElementById("retry-dead-letters");
  #cursor = null;

  start() {
    this.#more.addEventListener("click", () => this.#attempt(() => this.#load(this.#cursor)));
    this.#retryAll.addEventListener("click", () => this.#retryMany({ all: true }));
  }

  enter() {
    return this.#attempt(() => this.#load(null));
  }

  async #load(cursor) {
    const page = await requestJson(`${PATH}?limit=${PAGE_SIZE}${cursor ? `&cursor=${cursor}` : ""}`);
    const rows = page.dead_letters.map((letter) => this.#row(letter));
    if (cursor) this.#list.append(...rows);
    else this.#list.replaceChildren(...rows);
    this.#cursor = page.next_cursor;
    this.#more.hidden = !page.next_cursor;
    this.#retryAll.hidden = page.open < 2;
    writeOrHide(document.getElementById("dead-letters-empty"), page.open === 0 ? t("given_up.none") : "");
    if (cursor) rows[0]?.querySelector("button").focus();
  }

  #row(letter) {
    const row = stamp("dead-letter-template");
    const link = part(row, "document");
    write(part(row, "reason"), letter.reason);
    write(part(row, "about"), joined(letter.code, t("row.attempts", { n: letter.attempts }), moment(letter.last_failed_at)));
    link.hidden = !letter.document_id;
    link.href = passageHash(letter.document_id ?? "");
    part(row, "retry").hidden = !letter.document_id;
    part(row, "retry").addEventListener("click", () => this.#retry(letter, row));
    part(row, "retry-reason").hidden = !letter.document_id;
    part(row, "retry-reason").addEventListener("click", () => this.#retryMany({ reason: letter.reason }));
    part(row, "discard").addEventListener("click", () => this.#discard(letter, row));
    part(row, "details").addEventListener("toggle", () => this.#attempt(() => inspect(letter, row)));
    return row;
  }

  #retry(letter, row) {
    return this.#attempt(async () => {
      const { outcome } = await requestJson(`${PATH}/${letter.id}/retry`, { method: "POST" });
      await this.#settled(t(outcome === "queued" ? "given_up.tried" : "given_up.newer"), row);
    });
  }

  #retryMany(which) {
    return this.#attempt(async () => {
      const { queued, superseded, unreadable } = await requestJson(`${PATH}/retry`, { method: "POST", json: which });
      const words = joined(
        t("given_up.queued", { n: queued }),
        superseded > 0 && t("given_up.settled", { n: superseded }),
        unreadable > 0 && t("given_up.unreadable", { n: unreadable }),
      );
      await this.#settled(words, null);
    });
  }

  #discard(letter, row) {
    return this.#attempt(async () => {
      await request(`${PATH}/${letter.id}`, { method: "DELETE" });
      await this.#settled(t("given_up.discarded"), row);
    });
  }

  /** Say what came of it, draw the list anew, and leave the focus where the row was. */
  async #settled(words, row) {
    const place = row ? [...this.#list.children].indexOf(row) : 0;
    await this.#load(null);
    writeOrHide(document.getElementById("dead-letters-note"), words);
    announce(words);
    const next = this.#list.children[Math.min(place, this.#list.children.length - 1)];
    (next?.querySelector("button:not([hidden])") ?? document.getElementById("dead-letters-title")).focus();
  }

  #attempt(work) {
    writeOrHide(document.getElementById("dead-letters-note"), "");
    return attempt(document.getElementById("dead-letters-problem"), work);
  }
}

/** The event that was to be applied and the log of its attempts, fetched when somebody looks. */
async function inspect(letter, row) {
  if (!part(row, "details").open || part(row, "event").textContent) return;
  const shown = await requestJson(`${PATH}/${letter.id}`);
  write(part(row, "event"), shown.event ? JSON.stringify(shown.event, null, 2) : shown.payload);
  write(part(row, "log"), shown.log || t("given_up.silent"));
}
