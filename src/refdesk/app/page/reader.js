// The document as it was indexed, beside the answer, with the cited passage marked.

import { addressOf, documentPath, request, requestJson } from "./api.js";
import { joined, mediaType } from "./format.js";
import { currentKey } from "./key.js";
import { make } from "./page.js";
import { clean, write } from "./text.js";
import { t } from "./texts.js";

const BESIDE = matchMedia("(min-width: 68rem)"); // wide enough to read and ask at once; the same width is in styles.css
const BLOB_MS = 60_000;
// What may open in place, and as what. A blob is of our own origin, so a web page among the documents must not be one.
const OPENED_AS = { PDF: "application/pdf", Text: "text/plain;charset=utf-8", Markdown: "text/plain;charset=utf-8" };

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

  start() {
    document.getElementById("reader-close").addEventListener("click", () => this.onLeave());
    this.#original.addEventListener("click", (event) => this.#openOriginal(event));
    this.#dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.onLeave();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.#dialog.open && !document.querySelector("dialog:modal")) this.onLeave();
    });
  }

  async open(documentId, ordinal) {
    const opening = ++this.#turnOfOpening;
    this.#reveal();
    this.#begin(documentId);
    try {
      const document = await this.#load(documentId);
      if (opening === this.#turnOfOpening) this.#draw(document, ordinal);
    } catch (problem) {
      if (opening === this.#turnOfOpening) this.#fail(problem);
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

  #draw(shown, ordinal) {
    this.#shown = shown;
    write(this.#title, shown.title);
    const address = /^https?:/.test(shown.url ?? "") ? shown.url : ""; // as text: nothing a document says becomes a link
    write(this.#about, joined(mediaType(shown.media_type), t("reader.version", { n: shown.version }), t("reader.passages", { n: shown.passages.length }), address));
    this.#body.replaceChildren(...drawPassages(shown.passages, ordinal));
    this.#point(shown, shown.passages.find((passage) => passage.ordinal === ordinal));
  }

  #point(shown, cited) {
    this.#page = cited?.page ?? null;
    this.#original.href = addressOf(documentPath(shown.document_id, "/content")) + this.#fragment();
    this.#original.hidden = false;
    const target = this.#body.querySelector(".cited");
    (target ?? this.#title).focus({ preventScroll: true });
    if (target) target.scrollIntoView({ block: "center", behavior: "instant" });
    else this.#body.scrollTop = 0;
  }

  #fail(problem) {
    this.#shown = null;
    this.#title.textContent = t("reader.cannot");
    this.#about.textContent = "";
    this.#body.replaceChildren(make("p", "failure", problem.message));
    this.#original.hidden = true;
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
    const type = OPENED_AS[mediaType(shown.media_type)];
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

function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = clean(name);
  link.click();
}

function isPdf(shown) {
  return mediaType(shown.media_type) === "PDF";
}

function drawPassages(passages, ordinal) {
  if (passages.length === 0) return [make("p", "empty", t("reader.pending"))];
  let before = {};
  return passages.flatMap((passage) => {
    const marks = drawMarks(passage, before);
    before = passage;
    return [...marks, drawPassage(passage, passage.ordinal === ordinal)];
  });
}

/** The page number and the heading, where they change. */
function drawMarks(passage, before) {
  const marks = [];
  if (passage.page && passage.page !== before.page) marks.push(make("p", "page-mark", t("reader.page", { n: passage.page })));
  if (passage.heading && passage.heading !== before.heading) marks.push(make("h3", "passage-heading", passage.heading));
  return marks;
}

function drawPassage(passage, cited) {
  const element = make("p", cited ? "passage cited" : "passage", passage.text);
  element.dataset.ordinal = passage.ordinal;
  element.dataset.testid = "passage";
  if (!cited) return element;
  element.tabIndex = -1;
  element.setAttribute("aria-current", "true");
  return element;
}
