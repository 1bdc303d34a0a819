// What is done with several documents at once: tags, readers, another try, deletion.

import { documentPath, request } from "./api.js";
import { announce } from "./page.js";
import { writeOrHide } from "./text.js";
import { t } from "./texts.js";

const AT_ONCE = 4;

export class Bulk {
  #bar = document.getElementById("bulk");
  #form = document.getElementById("bulk-form");
  #dialog = document.getElementById("bulk-dialog");
  #chosen = new Map(); // id → the document as it was chosen
  #onDone;
  #onRemove;
  #onCleared;

  /** `onRemove(documents)` deletes them, `onDone(document)` gets each that was changed, `onCleared` when none is chosen any more. */
  constructor({ onRemove, onDone, onCleared }) {
    this.#onRemove = onRemove;
    this.#onDone = onDone;
    this.#onCleared = onCleared;
    document.getElementById("bulk-clear").addEventListener("click", () => this.clear());
    document.getElementById("bulk-change").addEventListener("click", () => this.#open());
    document.getElementById("bulk-retry").addEventListener("click", () => this.#retry());
    document.getElementById("bulk-delete").addEventListener("click", () => this.#remove());
    document.getElementById("bulk-cancel").addEventListener("click", () => this.#dialog.close());
    this.#form.addEventListener("submit", () => this.#change());
  }

  has(id) {
    return this.#chosen.has(id);
  }

  choose(shown, isChosen) {
    if (isChosen) this.#chosen.set(shown.id, shown);
    else this.#chosen.delete(shown.id);
    this.#draw();
  }

  /** The newest form of a document, if it is chosen. */
  told(shown) {
    if (this.#chosen.has(shown.id)) this.#chosen.set(shown.id, shown);
  }

  chooseAll(documents) {
    for (const shown of documents) this.#chosen.set(shown.id, shown);
    this.#draw();
  }

  clear() {
    this.#chosen.clear();
    this.#onCleared();
    this.#draw();
  }

  #draw() {
    const count = this.#chosen.size;
    this.#bar.hidden = count === 0;
    document.getElementById("bulk-count").textContent = t("bulk.count", { n: count });
    document.getElementById("bulk-retry").hidden = ![...this.#chosen.values()].some(({ state }) => state === "failed");
  }

  #open() {
    this.#form.reset();
    this.#dialog.showModal();
  }

  #remove() {
    const chosen = [...this.#chosen.values()];
    this.clear();
    this.#onRemove(chosen);
  }

  #retry() {
    const failed = [...this.#chosen.values()].filter(({ state }) => state === "failed");
    return this.#each(failed, ({ id }) => request(documentPath(id, "/retry"), { method: "POST" }));
  }

  /** Each document by itself: what is added or taken away depends on what it has. */
  #change() {
    const names = (field) => namesIn(this.#form.elements[field].value);
    const add = names("add"), drop = new Set(names("drop")), readers = names("readers");
    return this.#each([...this.#chosen.values()], (shown) => {
      const tags = [...new Set([...shown.tags, ...add])].filter((tag) => !drop.has(tag));
      const json = { tags, ...(readers.length > 0 ? { readers } : {}) };
      return request(documentPath(shown.id), { method: "PUT", json, headers: { "If-Match": `"${shown.version}"` } });
    });
  }

  async #each(documents, work) {
    const ahead = [...documents];
    const refused = [];
    const one = async () => {
      for (let shown = ahead.shift(); shown; shown = ahead.shift()) {
        try {
          this.#onDone(await (await work(shown)).json());
          this.#chosen.delete(shown.id);
        } catch (problem) {
          refused.push(problem.message);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    this.#onCleared();
    this.#draw();
    announce(t("bulk.changed", { n: documents.length, done: documents.length - refused.length }));
    const why = [...new Set(refused)].join(" ");
    writeOrHide(document.getElementById("documents-problem"), refused.length ? t("bulk.refused", { n: refused.length, why }) : "");
  }
}

/** What stands between commas. */
export function namesIn(text) {
  return text.split(",").map((name) => name.trim()).filter(Boolean);
}
