// The list of documents, kept live by the service's events while it is in view.

import { documentPath, request, requestJson } from "./api.js";
import { openDeadLetters } from "./dead_letters.js";
import { DocumentRow } from "./document_row.js";
import { plural } from "./format.js";
import { announce } from "./page.js";
import { messages, pause } from "./sse.js";
import { drawSyncs } from "./syncs.js";
import { write, writeOrHide } from "./text.js";
import { Uploads } from "./uploads.js";

const PAGE_SIZE = 50;
const PENDING_SHOWN_MAX = 200; // the most that one page of the service holds
const LOOK_AGAIN_S = 3; // no event tells that a queue has become shorter
const FILTER_WAIT_MS = 250;
const RECONNECT_MS = [500, 1000, 2000, 5000, 10_000];

export class View {
  #list = document.getElementById("documents");
  #filter = document.getElementById("filter");
  #more = document.getElementById("load-more");
  #rows = new Map(); // by id, in the order of the list
  #changed = new Set(); // ids that events spoke of while a page was under way: the events know better
  #cursor = null;
  #aborter = null;
  #filterTimer = null;
  #listing = 0;
  #ticks = 0;
  #uploads = new Uploads((added) => this.show(added));

  start() {
    this.#more.addEventListener("click", () => this.#loadMore());
    this.#filter.addEventListener("input", () => {
      clearTimeout(this.#filterTimer);
      this.#filterTimer = setTimeout(() => this.#reload(PAGE_SIZE), FILTER_WAIT_MS);
    });
    document.getElementById("file-input").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = ""; // the same file may be chosen again
    });
    setInterval(() => this.#tick(), 1000);
  }

  /** Upload files, as many at a time as is good. */
  add(files) {
    this.#uploads.add(files);
  }

  enter() {
    if (this.#aborter) return;
    this.#aborter = new AbortController();
    this.#watch(this.#aborter.signal);
    this.#drawDeadLetters();
    drawSyncs();
  }

  leave() {
    this.#aborter?.abort();
    this.#aborter = null;
  }

  /** Show a document that was just added, or its newer form, at the top. */
  show(shown) {
    const row = this.#rows.get(shown.id);
    if (row) row.update(shown);
    else if (this.#matchesFilter(shown)) this.#list.prepend(this.#addRow(shown).element);
    this.#changed.add(shown.id);
    this.#drawEmpty();
  }

  /** Follow the events; on every new connection load the list again, since some may have been missed. */
  async #watch(signal) {
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        const response = await request("/api/documents/events", { headers: { Accept: "text/event-stream" }, signal });
        document.getElementById("live-state").hidden = true;
        this.#reload();
        for await (const event of messages(response)) {
          failures = 0;
          this.#apply(event);
        }
      } catch (problem) {
        if (signal.aborted) return;
        if (problem.status && !problem.passing) return this.#fail(problem); // refused: asking again would not help
        if (failures === 0) this.#reload();
      }
      if (signal.aborted) return;
      document.getElementById("live-state").hidden = false;
      await pause(RECONNECT_MS[Math.min(failures, RECONNECT_MS.length - 1)], signal);
    }
  }

  #apply({ name, data }) {
    if (name === "deleted") this.#remove(data.id);
    if (name === "document") this.#announceChange(data);
    if (name === "document") this.show(data);
  }

  #announceChange({ id, title, state }) {
    const before = this.#rows.get(id)?.document.state;
    if (before === "pending" && state === "indexed") announce(`${title} is ready.`);
    if (before === "pending" && state === "failed") {
      announce(`${title} could not be indexed.`);
      this.#drawDeadLetters();
    }
  }

  /** Load at least as many documents as are shown, and draw them in place. */
  async #reload(wanted = Math.max(PAGE_SIZE, this.#rows.size)) {
    const listing = ++this.#listing;
    this.#changed.clear();
    try {
      const loaded = [];
      let cursor = null;
      do {
        const page = await this.#page(cursor);
        if (listing !== this.#listing) return;
        loaded.push(...page.documents);
        cursor = page.next_cursor;
      } while (cursor && loaded.length < wanted);
      this.#cursor = cursor;
      this.#replace(loaded);
      this.#fail(null);
    } catch (problem) {
      if (listing === this.#listing) this.#fail(problem);
    }
  }

  async #loadMore() {
    const listing = ++this.#listing;
    try {
      const page = await this.#page(this.#cursor);
      if (listing !== this.#listing) return;
      const fresh = page.documents.filter(({ id }) => !this.#rows.has(id));
      this.#list.append(...fresh.map((shown) => this.#addRow(shown).element));
      this.#cursor = page.next_cursor;
      this.#drawEmpty();
      if (fresh.length > 0) this.#rows.get(fresh[0].id).element.querySelector("a").focus();
    } catch (problem) {
      this.#fail(problem);
    }
  }

  #page(cursor) {
    const query = new URLSearchParams({ limit: PAGE_SIZE });
    if (cursor) query.set("cursor", cursor);
    if (this.#filter.value.trim()) query.set("q", this.#filter.value.trim());
    return requestJson(`/api/documents?${query}`);
  }

  #replace(loaded) {
    const kept = new Set([...loaded.map(({ id }) => id), ...this.#changed]);
    for (const id of [...this.#rows.keys()]) if (!kept.has(id)) this.#drop(id);
    this.#arrange(loaded.filter(({ id }) => !this.#changed.has(id)));
    this.#drawEmpty();
  }

  // Rows that stay keep their element, and move only if they must: focus and animation survive a reload.
  #arrange(loaded) {
    const unchanged = (place) => (place && this.#changed.has(place.dataset.id) ? unchanged(place.nextElementSibling) : place);
    let place = unchanged(this.#list.firstElementChild);
    for (const shown of loaded) {
      const row = this.#rows.get(shown.id);
      const element = row?.element ?? this.#addRow(shown).element;
      row?.update(shown);
      if (element === place) place = unchanged(place.nextElementSibling);
      else this.#list.insertBefore(element, place);
    }
  }

  #addRow(shown) {
    const row = new DocumentRow(shown, {
      onRetry: (retried) => this.#retry(retried),
      onDelete: (unwanted) => this.#delete(unwanted),
    });
    this.#rows.set(shown.id, row);
    return row;
  }

  #remove(id) {
    this.#changed.add(id);
    this.#drop(id);
    this.#drawEmpty();
  }

  #drop(id) {
    const element = this.#rows.get(id)?.element;
    if (!element) return;
    const neighbour = element.nextElementSibling ?? element.previousElementSibling;
    const hadFocus = element.contains(document.activeElement);
    element.remove();
    this.#rows.delete(id);
    if (hadFocus) (neighbour?.querySelector("a") ?? this.#filter).focus();
  }

  async #retry(row) {
    try {
      await request(documentPath(row.document.id, "/retry"), { method: "POST" });
      row.update({ ...row.document, state: "pending", failure: null, waiting: null, lag_seconds: 0 });
      row.element.querySelector("a").focus();
    } catch (problem) {
      row.complain(problem.message);
    }
  }

  async #delete(row) {
    if (!(await confirmed(row.name))) return;
    try {
      await request(documentPath(row.document.id), { method: "DELETE" });
      this.#remove(row.document.id);
    } catch (problem) {
      row.complain(problem.message);
    }
  }

  #tick() {
    if (!this.#aborter) return;
    const pending = [...this.#rows.values()].filter((row) => row.document.state === "pending");
    for (const row of pending) row.drawState();
    this.#ticks += 1;
    if (pending.length > 0 && this.#ticks % LOOK_AGAIN_S === 0) this.#lookAgain(pending);
  }

  /** Why the pending ones wait now; what events have said meanwhile counts more. */
  async #lookAgain(pending) {
    const seen = new Map(pending.map((row) => [row.document.id, row.document]));
    const page = await requestJson(`/api/documents?state=pending&limit=${PENDING_SHOWN_MAX}`).catch(() => ({ documents: [] }));
    for (const shown of page.documents) {
      const row = this.#rows.get(shown.id);
      if (row && row.document === seen.get(shown.id)) row.update(shown);
    }
  }

  async #drawDeadLetters() {
    const open = await openDeadLetters();
    const link = document.getElementById("dead-letters-link");
    writeOrHide(link, open > 0 ? `${plural(open, "change")} could not be indexed and ${open === 1 ? "was" : "were"} given up` : "");
  }

  #drawEmpty() {
    this.#more.hidden = !this.#cursor;
    const filter = this.#filter.value.trim();
    const words = filter ? `No title contains “${filter}”.` : "No documents yet.";
    writeOrHide(document.getElementById("documents-empty"), this.#rows.size === 0 ? words : "");
  }

  #matchesFilter({ title, own_title: ownTitle }) {
    const wanted = this.#filter.value.trim().toLowerCase();
    return [title, ownTitle ?? ""].some((name) => name.toLowerCase().includes(wanted));
  }

  #fail(problem) {
    writeOrHide(document.getElementById("documents-problem"), problem?.message ?? "");
  }
}

function confirmed(title) {
  const dialog = document.getElementById("confirm-dialog");
  write(document.getElementById("confirm-text"), `“${title}” leaves the answers at once. This cannot be undone.`);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "confirm"), { once: true });
  });
}
