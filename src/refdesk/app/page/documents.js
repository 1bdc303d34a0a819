// The documents, kept live by the service's events while they are in view.

import { documentPath, request, requestJson } from "./api.js";
import { Bulk } from "./bulk.js";
import { openDeadLetters } from "./dead_letters.js";
import { DocumentDetails } from "./document_details.js";
import { DocumentFilters } from "./document_filters.js";
import { DocumentList } from "./document_list.js";
import { DocumentRow, mayChange, nameOf } from "./document_row.js";
import { may } from "./me.js";
import { announce } from "./page.js";
import { messages, pause } from "./sse.js";
import { drawSyncs } from "./syncs.js";
import { writeOrHide } from "./text.js";
import { t } from "./texts.js";
import { offerUndo } from "./undo.js";
import { Uploads } from "./uploads.js";

const PAGE_SIZE = 50;
const RELOADED_MAX = 1000;
const PENDING_SHOWN_MAX = 200; // the most that one page of the service holds
const LOOK_AGAIN_S = 3; // no event tells that a queue has become shorter
const HEARD_MAX = 500;
const COUNT_AGAIN_MS = 1000;
const RECONNECT_MS = [500, 1000, 2000, 5000, 10_000];

export class View {
  #list = new DocumentList(document.getElementById("documents"), (entry) => this.#makeRow(entry));
  #filters = new DocumentFilters(() => this.#reload(PAGE_SIZE));
  #more = document.getElementById("load-more");
  #end = new IntersectionObserver((seen) => seen.at(-1).isIntersecting && this.#loadMore(), { rootMargin: "600px" });
  #details = new DocumentDetails((changed) => this.#showReply(changed));
  #uploads = new Uploads((added) => this.#showReply(added));
  #bulk = new Bulk({
    onRemove: (documents) => this.#remove(documents),
    onDone: (changed) => this.#showReply(changed),
    onCleared: () => this.#drawChosen(),
  });
  #changed = new Set(); // ids that events spoke of while a page was under way: the events know better
  #gone = new Set();
  #heard = new Map(); // what events said last of a document: the reply to a write may come behind them
  #removed = new Map(); // deleted here, and perhaps not there yet
  #total = null;
  #cursor = null;
  #aborter = null;
  #counting = null;
  #listing = 0;
  #isLoading = false;
  #ticks = 0;

  start() {
    this.#more.addEventListener("click", () => this.#loadMore({ byHand: true }));
    this.#end.observe(this.#more);
    for (const id of ["file-input", "folder-input"]) {
      document.getElementById(id).addEventListener("change", (event) => {
        this.#uploads.add([...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
        event.target.value = ""; // the same file may be chosen again
      });
    }
    document.getElementById("bulk-all").addEventListener("click", () => this.#chooseAll());
    setInterval(() => this.#tick(), 1000);
  }

  /** Upload what was dropped: files, or the browser's entries of files and folders. */
  async add(dropped) {
    try {
      const { filesBelow } = await import("./folders.js");
      const files = dropped.filter((one) => one instanceof File).map((file) => ({ file, path: file.name }));
      this.#uploads.add([...files, ...(await filesBelow(dropped.filter((one) => !(one instanceof File))))]);
    } catch (problem) {
      this.#fail(problem);
    }
  }

  enter() {
    if (this.#aborter) return;
    this.#aborter = new AbortController();
    this.#watch(this.#aborter.signal);
    this.#drawDeadLetters();
    drawSyncs();
    this.#uploads.lookAgain();
    may("documents.create").then((isOpen) => { document.getElementById("documents-add").hidden = !isOpen; });
  }

  leave() {
    this.#aborter?.abort();
    this.#aborter = null;
  }

  /** Show a document that was just added, or its newer form. */
  show(shown) {
    if (this.#removed.has(shown.id)) return;
    if (this.#list.get(shown.id)) this.#list.update(shown);
    else if (shown.id > this.#list.newest && this.#filters.takes(shown)) this.#list.prepend(shown); // ids sort by age
    this.#bulk.told(this.#list.get(shown.id) ?? shown);
    this.#changed.add(shown.id);
    this.#countSoon();
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
    if (name === "deleted") this.#drop(data.id);
    if (name !== "document") return;
    this.#heard.delete(data.id);
    this.#heard.set(data.id, data);
    if (this.#heard.size > HEARD_MAX) this.#heard.delete(this.#heard.keys().next().value);
    this.#uploads.told(data);
    this.#announceChange(data);
    this.show(data);
  }

  /** The reply to a write, or what events have said of that version already, which is given back. */
  #showReply(reply) {
    const heard = this.#heard.get(reply.id);
    const newest = heard?.version >= reply.version ? heard : reply;
    this.show(newest);
    return newest;
  }

  #announceChange({ id, title, state }) {
    const before = this.#list.get(id)?.state;
    if (before === "pending" && state === "indexed") announce(t("documents.is_ready", { title }));
    if (before === "pending" && state === "failed") {
      announce(t("documents.has_failed", { title }));
      this.#drawDeadLetters();
    }
  }

  /** Load at least as many documents as are shown, and draw them in place. */
  async #reload(wanted = Math.min(RELOADED_MAX, Math.max(PAGE_SIZE, this.#list.size))) {
    const listing = ++this.#listing;
    this.#changed.clear();
    this.#gone.clear();
    try {
      const loaded = [];
      let cursor = null;
      do {
        const page = await this.#page(cursor);
        if (listing !== this.#listing) return;
        loaded.push(...page.documents);
        cursor = page.next_cursor;
        this.#total = page.total ?? this.#total;
      } while (cursor && loaded.length < wanted);
      this.#cursor = cursor;
      if (cursor) this.#end.observe(this.#more);
      this.#replace(loaded);
      this.#fail(null);
    } catch (problem) {
      if (listing === this.#listing) this.#fail(problem);
    }
  }

  async #loadMore({ byHand = false } = {}) {
    if (!this.#cursor || this.#isLoading) return;
    this.#isLoading = true;
    const listing = this.#listing;
    try {
      const page = await this.#page(this.#cursor);
      if (listing !== this.#listing) return;
      const [first] = page.documents.filter(({ id }) => !this.#list.get(id));
      this.#list.append(page.documents.filter(({ id }) => !this.#removed.has(id)));
      this.#cursor = page.next_cursor;
      this.#drawEmpty();
      if (byHand && first) this.#list.row(first.id)?.element.querySelector("a").focus();
    } catch (problem) {
      this.#fail(problem);
    } finally {
      this.#isLoading = false;
      this.#end.unobserve(this.#more); // looked at anew: the end may still be near
      if (this.#cursor) this.#end.observe(this.#more);
    }
  }

  #page(cursor) {
    const query = this.#filters.query;
    query.set("limit", PAGE_SIZE);
    if (cursor) query.set("cursor", cursor);
    else query.set("total", "true");
    return requestJson(`/api/documents?${query}`);
  }

  /** What events said of documents while the page was under way counts more. */
  #replace(loaded) {
    const known = new Map(this.#list.ids.map((id) => [id, this.#list.get(id)]));
    const fresh = [...known].filter(([id]) => this.#changed.has(id) && !loaded.some((one) => one.id === id)).map(([, one]) => one);
    const isGone = ({ id }) => this.#removed.has(id) || this.#gone.has(id);
    const newest = (one) => (this.#changed.has(one.id) && known.get(one.id)) || one;
    this.#list.replace([...fresh, ...loaded.filter((one) => !isGone(one)).map(newest)]);
    this.#drawEmpty();
  }

  #makeRow({ document: shown }) {
    const row = new DocumentRow({
      retry: (retried) => this.#retry(retried),
      remove: (unwanted) => this.#remove([unwanted.document]),
      details: (wanted) => this.#details.open(wanted.document),
      select: (chosen, isChosen) => this.#bulk.choose(chosen.document, isChosen),
    });
    row.drawChosen(this.#bulk.has(shown.id));
    return row;
  }

  #chooseAll() {
    this.#bulk.chooseAll(this.#list.ids.map((id) => this.#list.get(id)).filter(mayChange));
    this.#drawChosen();
  }

  #drawChosen() {
    for (const { row, entry } of this.#list.drawn) row.drawChosen(this.#bulk.has(entry.document.id));
  }

  #drop(id) {
    this.#gone.add(id);
    if (!this.#list.get(id)) return this.#countSoon();
    const hadFocus = this.#list.row(id)?.element.contains(document.activeElement);
    const neighbour = this.#list.remove(id);
    this.#bulk.choose({ id }, false);
    if (hadFocus) (neighbour?.querySelector("a") ?? document.getElementById("filter")).focus();
    this.#countSoon();
    this.#drawEmpty();
  }

  async #retry(row) {
    try {
      await request(documentPath(row.document.id, "/retry"), { method: "POST" });
      this.show({ ...row.document, state: "pending", failure: null, waiting: null, lag_seconds: 0 });
      row.element.querySelector("a").focus();
    } catch (problem) {
      row.complain(problem.message);
    }
  }

  /** Off the list at once, and gone for good unless somebody takes it back in time; what was changed meanwhile stays. */
  #remove(documents) {
    for (const shown of documents) {
      this.#removed.set(shown.id, shown);
      this.#drop(shown.id);
    }
    const n = documents.length;
    offerUndo(n === 1 ? t("documents.going", { title: nameOf(documents[0]) }) : t("documents.several_going", { n }), {
      commit: () => documents.forEach((shown) => this.#delete(shown)),
      undo: () => {
        for (const { id } of documents) this.#removed.delete(id);
        this.#reload();
      },
    });
  }

  async #delete({ id, version }) {
    try {
      await request(documentPath(id), { method: "DELETE", headers: { "If-Match": `"${version}"` }, keepalive: true });
    } catch (problem) {
      this.#removed.delete(id);
      if (problem.status !== 404) this.#reload().then(() => this.#fail(problem));
    }
  }

  #tick() {
    if (!this.#aborter) return;
    const pending = this.#list.drawn.filter(({ entry }) => entry.document.state === "pending");
    for (const { row } of pending) row.drawState();
    this.#ticks += 1;
    if (this.#ticks % LOOK_AGAIN_S !== 0) return;
    if (pending.length > 0) this.#lookAgain();
    this.#uploads.lookAgain();
  }

  /** Why the pending ones wait now; what events have said meanwhile counts more. */
  async #lookAgain() {
    const seen = new Map(this.#list.drawn.map(({ entry }) => [entry.document.id, entry.document]));
    const page = await requestJson(`/api/documents?state=pending&limit=${PENDING_SHOWN_MAX}`).catch(() => ({ documents: [] }));
    for (const shown of page.documents) {
      this.#uploads.told(shown);
      const known = this.#list.get(shown.id);
      if (known && known === seen.get(shown.id)) this.#list.update(shown);
    }
  }

  async #drawDeadLetters() {
    const open = await openDeadLetters();
    const link = document.getElementById("dead-letters-link");
    writeOrHide(link, open > 0 ? t("documents.given_up", { n: open }) : "");
  }

  /** The total again, once it is quiet for a moment. */
  #countSoon() {
    clearTimeout(this.#counting);
    this.#counting = setTimeout(async () => {
      const query = this.#filters.query;
      query.set("limit", 1);
      query.set("total", "true");
      const page = await requestJson(`/api/documents?${query}`).catch(() => null);
      this.#total = page?.total ?? this.#total;
      this.#drawEmpty();
    }, COUNT_AGAIN_MS);
  }

  #drawEmpty() {
    this.#more.hidden = !this.#cursor;
    const isEmpty = this.#list.size === 0;
    const { isNarrow, words } = this.#filters;
    const nothing = words ? t("documents.no_title", { words }) : t("documents.no_match");
    writeOrHide(document.getElementById("documents-empty"), !isEmpty ? "" : isNarrow ? nothing : t("documents.none"));
    writeOrHide(document.getElementById("documents-total"), this.#total === null || isEmpty ? "" : t("documents.count", { n: Math.max(this.#total, this.#list.size) }));
    document.getElementById("bulk-all").hidden = !this.#list.drawn.some(({ entry }) => mayChange(entry.document));
    this.#list.setTotal(this.#total);
  }

  #fail(problem) {
    writeOrHide(document.getElementById("documents-problem"), problem?.message ?? "");
  }
}
