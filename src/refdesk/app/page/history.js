// The drawer of one's conversations: found by their words, opened, renamed, exported, deleted.

import {
  conversationHash, exportConversation, listConversations, onConversationsChanged, removeConversation, renameConversation,
} from "./conversations.js";
import { moment } from "./format.js";
import { saveBlob } from "./handing_out.js";
import { part, stamp } from "./page.js";
import { attempt, clean, write, writeOrHide } from "./text.js";
import { t } from "./texts.js";
import { offerUndo } from "./undo.js";

const BESIDE = matchMedia("(min-width: 80rem)"); // wide enough to stay open; the same width is in history.css
const SEARCH_WAIT_MS = 250;
const FORMATS = { markdown: "md", json: "json" };

export class View {
  onRemoved = () => {}; // called with the id of a conversation that was deleted

  #dialog = document.getElementById("history");
  #search = document.getElementById("history-search");
  #list = document.getElementById("history-list");
  #more = document.getElementById("history-more");
  #problem = document.getElementById("history-problem");
  #cursor = null;
  #timer = null;
  #listing = 0;
  #removed = new Set(); // deleted here, and perhaps not there yet
  #opener = null;

  start() {
    document.getElementById("history-close").addEventListener("click", () => this.close());
    this.#dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.close();
    });
    this.#search.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#load(), SEARCH_WAIT_MS);
    });
    this.#more.addEventListener("click", () => this.#load(this.#cursor));
    onConversationsChanged(() => this.#dialog.open && this.#load());
    addEventListener("hashchange", () => this.#drawCurrent());
  }

  toggle() {
    if (this.#dialog.open) this.close();
    else this.open();
  }

  open() {
    this.#opener = document.activeElement;
    if (BESIDE.matches) this.#dialog.show();
    else this.#dialog.showModal();
    document.body.classList.add("has-history");
    this.#search.focus();
    return this.#load();
  }

  close() {
    if (!this.#dialog.open) return;
    this.#dialog.close();
    document.body.classList.remove("has-history");
    if (this.#opener?.isConnected) this.#opener.focus();
  }

  async #load(cursor = null) {
    const listing = ++this.#listing;
    try {
      const page = await listConversations({ words: this.#search.value.trim(), cursor });
      if (listing !== this.#listing) return;
      const rows = page.conversations.filter(({ id }) => !this.#removed.has(id)).map((one) => this.#drawn(one) ?? this.#row(one));
      if (cursor) this.#list.append(...rows);
      else this.#list.replaceChildren(...rows);
      this.#cursor = page.next_cursor ?? null;
      this.#more.hidden = !this.#cursor;
      const empty = this.#list.childElementCount === 0;
      writeOrHide(document.getElementById("history-empty"), empty ? t(this.#search.value ? "history.nothing" : "history.empty") : "");
      writeOrHide(this.#problem, "");
      this.#drawCurrent();
    } catch (problem) {
      if (listing === this.#listing) writeOrHide(this.#problem, problem.message);
    }
  }

  /** The row that is there and says the same: an open menu stays open. */
  #drawn({ id, updated_at: updatedAt, title }) {
    return [...this.#list.children].find(({ dataset }) => dataset.id === id && dataset.says === `${updatedAt} ${title}`);
  }

  #row(conversation) {
    const row = stamp("conversation-template");
    row.dataset.says = `${conversation.updated_at} ${conversation.title}`;
    const link = part(row, "title");
    row.dataset.id = conversation.id;
    write(link, conversation.title);
    link.href = conversationHash(conversation.id);
    link.addEventListener("click", () => !BESIDE.matches && this.close());
    write(part(row, "when"), moment(conversation.updated_at));
    part(row, "menu").addEventListener("click", (event) => {
      if (event.target.closest("button")) part(row, "menu").open = false;
    });
    part(row, "rename").addEventListener("click", () => this.#beginRename(row, conversation));
    part(row, "delete").addEventListener("click", () => this.#remove(row, conversation));
    for (const format of Object.keys(FORMATS)) {
      part(row, format).addEventListener("click", () => this.#export(conversation, format));
    }
    part(row, "menu").querySelector("summary").setAttribute("aria-label", t("history.menu", { title: clean(conversation.title) }));
    return row;
  }

  #drawCurrent() {
    for (const link of this.#list.querySelectorAll("a")) {
      link.setAttribute("aria-current", link.getAttribute("href") === location.hash ? "page" : "false");
    }
  }

  #beginRename(row, conversation) {
    const form = part(row, "rename-form");
    form.hidden = false;
    form.elements.title.value = clean(conversation.title);
    form.elements.title.select();
    form.onsubmit = (event) => {
      event.preventDefault();
      this.#rename(row, conversation, form.elements.title.value.trim());
    };
    form.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      this.#endRename(row);
    };
  }

  async #rename(row, conversation, title) {
    if (!title) return;
    await attempt(this.#problem, async () => {
      const renamed = await renameConversation(conversation.id, title);
      conversation.title = renamed.title;
      row.dataset.says = `${renamed.updated_at} ${renamed.title}`;
      write(part(row, "title"), renamed.title);
      this.#endRename(row);
    });
  }

  #endRename(row) {
    part(row, "rename-form").hidden = true;
    part(row, "title").focus();
  }

  #remove(row, conversation) {
    const next = row.nextElementSibling ?? row.previousElementSibling;
    const place = row.nextElementSibling;
    row.remove();
    this.#removed.add(conversation.id);
    (next?.querySelector("a") ?? this.#search).focus();
    this.onRemoved(conversation.id);
    offerUndo(t("history.deleted", { title: clean(conversation.title) }), {
      commit: () => attempt(this.#problem, () => removeConversation(conversation.id)),
      undo: () => {
        this.#removed.delete(conversation.id);
        this.#list.insertBefore(row, place?.isConnected ? place : null);
        part(row, "title").focus();
      },
    });
  }

  #export(conversation, format) {
    return attempt(this.#problem, async () => {
      saveBlob(await exportConversation(conversation.id, format), `${conversation.title}.${FORMATS[format]}`);
    });
  }
}
