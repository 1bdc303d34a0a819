// One document in the list, and how far the index has come with it.

import { bytes, joined, mediaType, moment, seconds } from "./format.js";
import { part, passageHash, stamp } from "./page.js";
import { write, writeOrHide } from "./text.js";

const LAG_SECONDS_SHOWN = 2;

export class DocumentRow {
  element = stamp("document-template");
  document = null;
  #seenAt = 0;

  constructor(shown, { onRetry, onDelete }) {
    part(this.element, "retry").addEventListener("click", () => onRetry(this));
    part(this.element, "delete").addEventListener("click", () => onDelete(this));
    this.element.dataset.id = shown.id;
    this.update(shown);
  }

  /** Draw the document's newest form; older ones that arrive late are ignored. */
  update(shown) {
    if (this.document && shown.version < this.document.version) return;
    const before = this.document;
    this.document = { ...before, ...shown };
    this.#seenAt = performance.now();
    this.#draw();
    if (before?.state === "pending" && shown.state === "indexed") this.#celebrate();
  }

  /** Say beside the document why something could not be done with it. */
  complain(text) {
    writeOrHide(part(this.element, "failure"), text);
  }

  /** The waiting time of a pending document, drawn anew. */
  drawState() {
    const { state, lag_seconds: lag } = this.document;
    const waited = (lag ?? 0) + (performance.now() - this.#seenAt) / 1000;
    const since = waited >= LAG_SECONDS_SHOWN ? `, ${seconds(waited)}` : "";
    const words = { pending: `indexing${since}`, indexed: "ready", failed: "failed" };
    write(part(this.element, "state"), words[state] ?? state);
  }

  #draw() {
    const { id, title, state, failure } = this.document;
    this.element.dataset.state = state;
    const link = part(this.element, "title");
    write(link, title);
    link.href = passageHash(id);
    write(part(this.element, "about"), about(this.document));
    this.complain(state === "failed" ? failure || "It could not be indexed." : "");
    part(this.element, "retry").hidden = state !== "failed";
    part(this.element, "delete").setAttribute("aria-label", `Delete ${link.textContent}`);
    this.drawState();
  }

  #celebrate() {
    this.element.classList.add("just-indexed");
    this.element.addEventListener("animationend", () => this.element.classList.remove("just-indexed"), { once: true });
  }
}

function about(shown) {
  const readers = (shown.readers ?? []).filter((reader) => reader !== "everyone");
  return joined(
    shown.media_type && mediaType(shown.media_type),
    shown.content_bytes !== undefined && bytes(shown.content_bytes),
    shown.version > 1 && `version ${shown.version}`,
    shown.updated_at && moment(shown.updated_at),
    readers.length > 0 && `for ${readers.join(", ")}`,
    shown.attempts > 1 && shown.state !== "indexed" && `${shown.attempts} attempts`,
    ...(shown.tags ?? []).map((tag) => `#${tag}`),
  );
}
