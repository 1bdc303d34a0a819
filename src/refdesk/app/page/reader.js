// The document as it was indexed, beside the answer, with the cited passage marked.

import { addressOf, documentPath, request, requestJson } from "./api.js";
import { joined, mediaType } from "./format.js";
import { save } from "./handing_out.js";
import { currentKey } from "./key.js";
import { make } from "./page.js";
import { drawPassages } from "./passages.js";
import { write } from "./text.js";
import { t } from "./texts.js";

const BESIDE = matchMedia("(min-width: 68rem)"); // wide enough to read and ask at once; the same width is in styles.css
const BLOB_MS = 60_000;
// What may open in place, and as what. A blob is of our own origin, so a web page among the documents must not be one.
const OPENED_AS = {
  "application/pdf": "application/pdf",
  "text/plain": "text/plain;charset=utf-8",
  "text/markdown": "text/plain;charset=utf-8",
};

export class View {
  onLeave = () => {}; // what to do when the person wants to close it

  #dialog = document.getElementById("reader");
  #title = document.getElementById("reader-title");
  #about = document.getElementById("reader-about");
  #body = document.getElementById("reader-body");
  #original = document.getElementById("reader-original");
  #problem = document.getElementById("reader-problem");
  #shown = null; // the document on the page
  #opener = null; // gets the focus back
  #page = null;
  #turnOfOpening = 0;
  #look = document.getElementById("reader-look");
  #place = null; // what is shown: {shown, cited, used}
  #prefersText = false;

  start() {
    document.getElementById("reader-close").addEventListener("click", () => this.onLeave());
    this.#look.addEventListener("click", () => this.#lookOtherwise());
    this.#original.addEventListener("click", (event) => this.#openOriginal(event));
    this.#dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.onLeave();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#dialog.open && !document.querySelector("dialog:modal")) this.onLeave();
    });
  }

  /** `used`: the sentence of that passage to mark. */
  async open(documentId, ordinal, used = "") {
    const opening = ++this.#turnOfOpening;
    this.#reveal();
    this.#begin(documentId);
    try {
      const document = await this.#load(documentId);
      if (opening === this.#turnOfOpening) this.#draw(document, ordinal, used);
    } catch (problem) {
      const waiting = problem.status === 404 ? await unread(documentId) : null;
      if (opening === this.#turnOfOpening) this.#fail(problem, waiting);
    }
  }

  close() {
    if (!this.#dialog.open) return;
    this.#turnOfOpening += 1;
    this.#dialog.close();
    document.body.classList.remove("is-reading");
    if (this.#opener?.isConnected) this.#opener.focus();
    this.#opener = null;
  }

  #reveal() {
    if (!this.#dialog.contains(document.activeElement)) this.#opener = document.activeElement;
    if (this.#dialog.open) return;
    if (BESIDE.matches) this.#dialog.show();
    else this.#dialog.showModal();
    document.body.classList.add("is-reading");
  }

  #begin(documentId) {
    this.#problem.textContent = "";
    if (this.#shown?.document_id === documentId) return; // it stays in view until the fresh copy is here
    this.#shown = null;
    this.#title.textContent = t("reader.opening");
    this.#about.textContent = "";
    this.#body.replaceChildren();
    this.#original.hidden = true;
  }

  #load(documentId) {
    return requestJson(`/api/passages/${encodeURIComponent(documentId)}`);
  }

  #draw(shown, ordinal, used) {
    this.#shown = shown;
    write(this.#title, shown.title);
    const address = /^https?:/.test(shown.url ?? "") ? shown.url : ""; // as text: nothing a document says becomes a link
    write(this.#about, joined(mediaType(shown.media_type), t("reader.version", { n: shown.version }), t("reader.passages", { n: shown.passages.length }), address));
    const cited = shown.passages.find((passage) => passage.ordinal === ordinal);
    this.#place = { shown, cited, used };
    this.#look.hidden = !isPdf(shown) || shown.passages.length === 0;
    if (this.#look.hidden || this.#prefersText) this.#drawText();
    else this.#drawPages().catch(() => this.#drawText());
  }

  #drawText() {
    const { shown, cited, used } = this.#place;
    this.#body.replaceChildren(...drawPassages(shown, { cited: cited?.ordinal, used }));
    if (shown.passages.length === 0) this.#body.append(make("p", "empty", t("reader.pending")));
    this.#look.textContent = t("reader.show_pages");
    this.#point(shown, cited);
  }

  /** Rejects where they cannot be drawn. */
  async #drawPages() {
    const place = this.#place;
    const { drawPdf } = await import("./pdf_pages.js");
    if (place !== this.#place) return;
    const target = await drawPdf(this.#body, place.shown, { page: place.cited?.page, used: place.used });
    if (place !== this.#place) return;
    this.#look.textContent = t("reader.show_text");
    this.#point(place.shown, place.cited);
    (target.querySelector(".pdf-mark") ?? target).scrollIntoView({ block: place.used ? "center" : "start", behavior: "instant" });
  }

  /** From pages to text, or back. */
  #lookOtherwise() {
    this.#prefersText = !this.#prefersText;
    if (this.#prefersText) this.#drawText();
    else this.#drawPages().catch(() => this.#drawText());
  }

  #point(shown, cited) {
    this.#page = cited?.page ?? null;
    this.#original.href = addressOf(documentPath(shown.document_id, "/content")) + this.#fragment();
    this.#original.hidden = false;
    const target = this.#body.querySelector(".cited");
    (target ?? this.#title).focus({ preventScroll: true });
    const inView = target?.querySelector(".used") ?? target;
    if (inView) inView.scrollIntoView({ block: "center", behavior: "instant" });
    else this.#body.scrollTop = 0;
  }

  /** `waiting`: the document, where it is there and only not in the index. */
  #fail(problem, waiting) {
    this.#shown = waiting && { document_id: waiting.id, media_type: waiting.media_type, title: waiting.title };
    write(this.#title, waiting ? waiting.own_title ?? waiting.title : t("reader.cannot"));
    write(this.#about, waiting ? joined(mediaType(waiting.media_type), t("reader.version", { n: waiting.version })) : "");
    const [className, text] = waiting ? stateOf(waiting) : ["failure", problem.message];
    this.#body.replaceChildren(make("p", className, text));
    this.#body.firstElementChild.dataset.testid = "reader-state";
    this.#place = null;
    this.#look.hidden = true;
    this.#original.hidden = !waiting;
    if (waiting) this.#original.href = addressOf(documentPath(waiting.id, "/content"));
    this.#title.focus({ preventScroll: true });
  }

  #fragment() {
    return this.#page && isPdf(this.#shown) ? `#page=${this.#page}` : "";
  }

  /** With a key the link cannot be followed as it is (the key travels in a header); a PDF we open at its page. */
  async #openOriginal(event) {
    if (!currentKey() && !isPdf(this.#shown)) return;
    event.preventDefault();
    const shown = this.#shown;
    const type = OPENED_AS[shown.media_type.split(";")[0]];
    const tab = type ? window.open("", "_blank") : null; // now, while the click still allows it
    if (tab) tab.opener = null;
    try {
      const response = await request(documentPath(shown.document_id, "/content"));
      const url = URL.createObjectURL(new Blob([await response.blob()], { type: type ?? "application/octet-stream" }));
      setTimeout(() => URL.revokeObjectURL(url), BLOB_MS);
      if (tab) tab.location = url + this.#fragment();
      else save(url, fileName(response) ?? shown.title);
    } catch (problem) {
      tab?.close();
      write(this.#problem, problem.message);
    }
  }

}

/** The name the service gives the file (RFC 6266). */
function fileName(response) {
  const name = response.headers.get("Content-Disposition")?.match(/filename\*=UTF-8''([^;]+)/i)?.[1];
  return name && decodeURIComponent(name);
}

/** A document that the index does not have, as its service knows it; null when it is not there either. */
function unread(id) {
  return requestJson(documentPath(id)).catch(() => null);
}

function stateOf({ state, failure }) {
  return state === "failed" ? ["failure", t("reader.failed", { reason: failure ?? "" }).trim()] : ["empty", t("reader.pending")];
}

function isPdf(shown) {
  return shown.media_type.startsWith("application/pdf");
}
