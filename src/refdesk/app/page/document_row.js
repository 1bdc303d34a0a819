// One document in the list, and how far the index has come with it.

import { bytes, joined, mediaType, moment, seconds } from "./format.js";
import { make, part, passageHash, stamp } from "./page.js";
import { clean, write, writeOrHide } from "./text.js";
import { language, t } from "./texts.js";

const LAG_SECONDS_SHOWN = 2;
const IN_LINE = ["queued", "broker_away", "indexer_away"]; // what waits for these has others ahead of it
const STEPS = { fetch: "step.reading", parse: "step.parsing", chunk: "step.parsing", embed: "step.embedding", store: "step.storing" };

export class DocumentRow {
  element = stamp("document-template");
  #entry = null;

  /** `on` has what happens: `retry`, `remove`, `details`, `select(row, isChosen)`. */
  constructor(on) {
    part(this.element, "retry").addEventListener("click", () => on.retry(this));
    part(this.element, "delete").addEventListener("click", () => on.remove(this));
    part(this.element, "details").addEventListener("click", () => on.details(this));
    part(this.element, "chosen").addEventListener("change", (event) => on.select(this, event.target.checked));
  }

  get document() {
    return this.#entry.document;
  }

  get name() {
    return nameOf(this.document);
  }

  /** Draw the document as it is now; `before` is how it was when it was drawn last. */
  draw(entry, before) {
    this.#entry = entry;
    this.#draw();
    if (before?.state === "pending" && this.document.state === "indexed") this.#celebrate();
  }

  drawChosen(isChosen) {
    part(this.element, "chosen").checked = isChosen;
  }

  /** Say beside the document why something could not be done with it. */
  complain(text) {
    writeOrHide(part(this.element, "failure"), text);
  }

  /** Why and how long a pending document waits, drawn anew. */
  drawState() {
    const { state, lag_seconds: lag } = this.document;
    const waited = (lag ?? 0) + (performance.now() - this.#entry.seenAt) / 1000;
    const since = waited >= LAG_SECONDS_SHOWN ? `, ${seconds(waited)}` : "";
    write(part(this.element, "state"), state === "pending" ? `${why(this.document)}${since}` : t(`state.${state}`));
  }

  #draw() {
    const { id, state, failure } = this.document;
    this.element.dataset.id = id;
    this.element.dataset.state = state;
    const link = part(this.element, "title");
    write(link, this.name);
    link.href = passageHash(id);
    write(part(this.element, "about"), about(this.document));
    this.#drawNotes();
    this.complain(state === "failed" ? failure || t("documents.failed") : state === "pending" ? failure : "");
    this.#drawActions(link.textContent);
    this.drawState();
  }

  /** Only what would not be refused. */
  #drawActions(name) {
    const { state } = this.document;
    const isOpen = mayChange(this.document);
    part(this.element, "retry").hidden = !isOpen || state !== "failed";
    part(this.element, "delete").hidden = !isOpen;
    part(this.element, "chosen").hidden = !isOpen;
    part(this.element, "retry").setAttribute("aria-label", t("row.retry", { name }));
    part(this.element, "delete").setAttribute("aria-label", t("row.delete", { name }));
    part(this.element, "details").setAttribute("aria-label", t("row.details", { name }));
    part(this.element, "chosen").setAttribute("aria-label", t("row.select", { name }));
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

/** What answers call it: the title it was given, else its own. */
export function nameOf(shown) {
  return clean(shown.own_title ?? shown.title);
}

export function mayChange(shown) {
  return shown.may?.includes("change") ?? false;
}

/** In words, why a change is not searchable yet. */
export function why({ waiting, indexing_step: step }) {
  if (!waiting) return t("waiting.queued");
  const { reason, ahead, ahead_at_least: isAtLeast, attempts, next_try_at: nextTryAt } = waiting;
  if (reason === "indexing" && step in STEPS) return t(STEPS[step]);
  const wait = seconds(Math.max(0, (new Date(nextTryAt) - Date.now()) / 1000));
  const words = t(`waiting.${reason}`, { attempt: attempts + 1, wait });
  if (ahead === 0 || !IN_LINE.includes(reason)) return words;
  return `${words}, ${t(isAtLeast ? "waiting.ahead_at_least" : "waiting.ahead", { n: ahead })}`;
}

/** How long a document took from its change on, step by step; empty where that is not known. */
export function stepTimes({ index_seconds: spent }) {
  if (spent?.total === undefined) return "";
  const inWork = Object.entries(spent).filter(([name]) => name !== "total");
  const sums = { "step.queued": Math.max(0, spent.total - inWork.reduce((sum, [, one]) => sum + one, 0)) };
  for (const [name, one] of inWork) sums[STEPS[name]] = (sums[STEPS[name]] ?? 0) + one;
  const steps = Object.entries(sums).map(([step, one]) => `${t(step)} ${brief(one)}`);
  return t("row.searchable_after", { total: brief(spent.total), steps: steps.join(", ") });
}

function brief(count) {
  return count < 10 ? `${count.toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 })} s` : seconds(count);
}

function about(shown) {
  const readers = (shown.readers ?? []).filter((reader) => reader !== "everyone");
  return joined(
    shown.own_title && shown.title,
    shown.media_type && mediaType(shown.media_type),
    shown.content_bytes !== undefined && bytes(shown.content_bytes),
    shown.version > 1 && t("reader.version", { n: shown.version }),
    shown.updated_at && moment(shown.updated_at),
    readers.length > 0 && t("row.readers", { names: readers.join(", ") }),
    shown.readers?.length === 0 && t("row.owner_alone"),
    shown.attempts > 1 && shown.state !== "indexed" && t("row.attempts", { n: shown.attempts }),
    ...(shown.tags ?? []).map((tag) => `#${tag}`),
  );
}
