// Adding files: a short queue, each file's way until it is searchable, and what went wrong in plain words.

import { documentPath, request, requestJson, upload } from "./api.js";
import { why, stepTimes } from "./document_row.js";
import { bytes } from "./format.js";
import { announce, part, stamp } from "./page.js";
import { write, writeOrHide } from "./text.js";
import { t } from "./texts.js";
import { settle } from "./undo.js";

const AT_ONCE = 2;
const LOOKUPS_MAX = 8; // the oldest first: looking must not cost more than indexing does
const NAMED = "upload:"; // what the external id of a file that was added here begins with

export class Uploads {
  #list = document.getElementById("uploads");
  #summary = document.getElementById("uploads-summary");
  #finished = document.getElementById("uploads-clear");
  #fields = document.getElementById("upload-fields");
  #entries = new Set(); // {file, path, row, state, document, fields}
  #waiting = [];
  #running = 0;
  #onAdded;

  /** `onAdded` gets each document as the service returned it, and gives back what is known of it by then. */
  constructor(onAdded) {
    this.#onAdded = onAdded;
    this.#finished.addEventListener("click", () => this.#clear());
  }

  /** `{file, path}`, the path below the folder that was chosen. A file that was added before is replaced. */
  add(files) {
    settle(); // a deletion that waits would take what comes now
    const fields = Object.fromEntries([...new FormData(this.#fields)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
    for (const { file, path } of files) this.#enqueue({ file, path, fields });
    this.#drawSummary();
  }

  /** The newest form of a document, if it was added here. */
  told(shown) {
    for (const entry of this.#entries) {
      if (entry.document?.id === shown.id && shown.version >= entry.document.version) this.#follow(entry, shown);
    }
    this.#drawSummary();
  }

  /** Ask for those that are under way: events may have been missed. */
  async lookAgain() {
    const open = [...this.#entries].filter(({ state }) => state === "stored");
    await Promise.all(open.slice(0, LOOKUPS_MAX).map(async ({ document }) => {
      const shown = await requestJson(documentPath(document.id)).catch(() => null);
      if (shown) this.told(shown);
    }));
  }

  #enqueue(wanted) {
    const row = stamp("upload-template");
    const entry = { ...wanted, row, state: "waiting", document: null };
    write(part(row, "name"), wanted.path);
    write(part(row, "note"), t("uploads.waiting"));
    part(row, "dismiss").addEventListener("click", () => this.#forget(entry));
    part(row, "again").addEventListener("click", () => this.#again(entry));
    this.#entries.add(entry);
    this.#list.append(row);
    this.#wait(entry);
  }

  #again(entry) {
    if (!entry.document) return this.#wait(entry);
    return request(documentPath(entry.document.id, "/retry"), { method: "POST" }).then(
      () => this.#follow(entry, { ...entry.document, state: "pending", failure: null, waiting: null }),
      (problem) => this.#draw(entry, "failed", problem.message),
    ).finally(() => this.#drawSummary());
  }

  #wait(entry) {
    this.#draw(entry, "waiting", t("uploads.waiting"));
    this.#waiting.push(entry);
    this.#next();
  }

  #next() {
    if (this.#running >= AT_ONCE || this.#waiting.length === 0) return;
    this.#running += 1;
    this.#send(this.#waiting.shift()).finally(() => {
      this.#running -= 1;
      this.#next();
    });
  }

  async #send(entry) {
    const { file, path, fields } = entry;
    this.#draw(entry, "sending", t("uploads.sending"));
    try {
      const address = `/api/documents/by-external-id/${encodeURIComponent(NAMED + path.normalize("NFC"))}`;
      const added = await upload(address, { method: "PUT", file, fields }, (share) => this.#drawProgress(entry, share));
      this.#follow(entry, this.#onAdded(added));
    } catch (problem) {
      this.#draw(entry, "failed", problem.message);
    }
    this.#drawSummary();
  }

  #follow(entry, shown) {
    entry.document = shown;
    const replaced = shown.version > 1 ? `, ${t("reader.version", { n: shown.version })}` : "";
    if (shown.state === "failed") this.#draw(entry, "failed", shown.failure || t("documents.failed"));
    else if (shown.state === "indexed") this.#draw(entry, "ready", `${stepTimes(shown) || t("uploads.searchable")}${replaced}`);
    else this.#draw(entry, "stored", `${why(shown)}${replaced}`);
  }

  #drawProgress({ row, file }, share) {
    part(row, "progress").value = share;
    write(part(row, "note"), share < 1 ? t("uploads.progress", { percent: Math.round(share * 100), size: bytes(file.size) }) : t("uploads.received"));
  }

  #draw(entry, state, note) {
    entry.state = state;
    entry.row.dataset.state = state;
    entry.row.classList.toggle("has-failed", state === "failed");
    part(entry.row, "progress").hidden = !["waiting", "sending"].includes(state);
    part(entry.row, "again").hidden = state !== "failed";
    part(entry.row, "dismiss").hidden = !["failed", "ready"].includes(state);
    write(part(entry.row, "note"), note);
  }

  #drawSummary() {
    const count = (state) => [...this.#entries].filter((entry) => entry.state === state).length;
    const ready = count("ready"), failed = count("failed"), all = this.#entries.size;
    const parts = [t("uploads.sum", { ready, all }), failed > 0 && t("uploads.sum_failed", { count: failed })];
    writeOrHide(this.#summary, all === 0 ? "" : parts.filter(Boolean).join(", "));
    this.#finished.hidden = ready === 0;
    if (all > 1 && ready + failed === all && this.#summary.dataset.told !== this.#summary.textContent) {
      this.#summary.dataset.told = this.#summary.textContent;
      announce(t("uploads.told", { sum: this.#summary.textContent }));
    }
  }

  #forget(entry) {
    entry.row.remove();
    this.#entries.delete(entry);
    this.#drawSummary();
  }

  #clear() {
    for (const entry of [...this.#entries]) if (entry.state === "ready") this.#forget(entry);
    document.getElementById("file-input").focus();
  }
}
