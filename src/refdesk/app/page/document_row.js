// One document in the list, and how far the index has come with it.

import { bytes, joined, mediaType, moment, seconds } from "./format.js";
import { make, part, passageHash, stamp } from "./page.js";
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

  /** What answers call it: the title it was given, else its own. */
  get name() {
    return this.document.own_title ?? this.document.title;
  }

  /** Why and how long a pending document waits, drawn anew. */
  drawState() {
    const { state, lag_seconds: lag } = this.document;
    const waited = (lag ?? 0) + (performance.now() - this.#seenAt) / 1000;
    const since = waited >= LAG_SECONDS_SHOWN ? `, ${seconds(waited)}` : "";
    const words = { pending: `${why(this.document.waiting)}${since}`, indexed: "ready", failed: "failed" };
    write(part(this.element, "state"), words[state] ?? state);
  }

  #draw() {
    const { id, state, failure } = this.document;
    this.element.dataset.state = state;
    const link = part(this.element, "title");
    write(link, this.name);
    link.href = passageHash(id);
    write(part(this.element, "about"), about(this.document));
    this.#drawNotes();
    this.complain(state === "failed" ? failure || "It could not be indexed." : state === "pending" ? failure : "");
    part(this.element, "retry").hidden = state !== "failed";
    part(this.element, "delete").setAttribute("aria-label", `Delete ${link.textContent}`);
    this.drawState();
  }

  /** What is to be known about how it was read. */
  #drawNotes() {
    const notes = part(this.element, "notes");
    notes.replaceChildren(...(this.document.notes ?? []).map(({ text }) => make("li", "", text)));
    notes.hidden = notes.childElementCount === 0;
  }

  #celebrate() {
    this.element.classList.add("just-indexed");
    this.element.addEventListener("animationend", () => this.element.classList.remove("just-indexed"), { once: true });
  }
}

/** In words, why a change is not searchable yet. */
function why(waiting) {
  if (!waiting) return "queued";
  const ahead = waiting.ahead === 0 ? "" : `, ${waiting.ahead.toLocaleString("en")}${waiting.ahead_at_least ? "+" : ""} ahead`;
  const next = Math.max(0, (new Date(waiting.next_try_at) - Date.now()) / 1000);
  const words = {
    queued: `queued${ahead}`,
    indexing: "indexing",
    retrying: `attempt ${waiting.attempts + 1} in ${seconds(next)}`,
    part_away: `a part is away, next attempt in ${seconds(next)}`,
    broker_away: `not handed over yet${ahead}`,
    indexer_away: `no indexer is at work${ahead}`,
  };
  return words[waiting.reason] ?? waiting.reason;
}

function about(shown) {
  const readers = (shown.readers ?? []).filter((reader) => reader !== "everyone");
  return joined(
    shown.own_title && shown.title,
    shown.media_type && mediaType(shown.media_type),
    shown.content_bytes !== undefined && bytes(shown.content_bytes),
    shown.version > 1 && `version ${shown.version}`,
    shown.updated_at && moment(shown.updated_at),
    readers.length > 0 && `for ${readers.join(", ")}`,
    shown.attempts > 1 && shown.state !== "indexed" && `${shown.attempts} attempts`,
    ...(shown.tags ?? []).map((tag) => `#${tag}`),
  );
}
