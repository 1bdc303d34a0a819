// Choosing what to ask about: a tag, a source or a document by a few of its letters, or since and until which day it was changed.

import { requestJson } from "./api.js";
import { make } from "./page.js";
import { clean } from "./text.js";
import { language, t } from "./texts.js";

const SHOWN_MAX = 8;
const EACH_MAX = 3; // tags and sources, as long as no letters were given
const LOOKED_AT = 200; // documents whose tags and folders are offered
const WAIT_MS = 200;
const DAYS = ["since", "until"];

export class FilterPicker {
  #input = document.getElementById("filter-words");
  #list = document.getElementById("filter-found");
  #onChoose;
  #chosen = [];
  #known = null; // the promise of tags and sources
  #shown = null; // what the list offers, as text
  #looking = 0;
  #timer = null;

  constructor(onChoose) {
    this.#onChoose = onChoose;
    this.#input.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#look(), WAIT_MS);
    });
    this.#input.addEventListener("keydown", (event) => {
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault(); // a search field would only be emptied by Escape
      if (event.key === "Enter") this.#list.querySelector("button")?.click();
      else this.#input.closest("[popover]").hidePopover();
    });
    for (const day of DAYS) {
      const input = dayInput(day);
      input.addEventListener("change", () => this.#onChoose({ kind: day, id: input.value, name: t(`filter.${day}_day`, { day: shownDay(input.value) }) }));
    }
  }

  show(chosen) {
    this.#chosen = chosen;
    this.#known = tagsAndSources();
    for (const day of DAYS) dayInput(day).value = chosen.find(({ kind }) => kind === day)?.id ?? "";
    this.#input.focus();
    return this.#look();
  }

  async #look() {
    const looking = ++this.#looking;
    const words = this.#input.value.trim();
    const [known, documents] = await Promise.all([this.#known, documentsWith(words)]);
    if (looking !== this.#looking) return;
    const isFree = (one) => !this.#chosen.some(({ kind, id }) => kind === one.kind && id === one.id);
    const matching = known.filter((one) => isFree(one) && one.name.toLowerCase().includes(words.toLowerCase()));
    const some = (kind) => matching.filter((one) => one.kind === kind).slice(0, words ? SHOWN_MAX : EACH_MAX);
    const titled = documents.map((one) => ({ kind: "document_ids", id: one.id, name: clean(one.own_title ?? one.title) }));
    this.#offer([...some("tags"), ...some("sources"), ...titled.filter(isFree)].slice(0, SHOWN_MAX));
  }

  /** The same choices stay where they are: a button replaced while it is pressed would lose the click. */
  #offer(found) {
    const shown = JSON.stringify(found);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#list.replaceChildren(...found.map((one) => this.#choice(one)));
    if (found.length === 0) this.#list.append(make("li", "small", t("filter.nothing")));
  }

  #choice(one) {
    const item = make("li", "");
    const button = make("button", "quiet", one.name);
    button.type = "button";
    button.dir = "auto";
    button.dataset.testid = "filter-choice";
    button.addEventListener("click", () => this.#onChoose(one));
    item.append(button);
    return item;
  }
}

async function tagsAndSources() {
  const { documents } = await requestJson(`/api/documents?limit=${LOOKED_AT}`).catch(() => ({ documents: [] }));
  const distinct = (names) => [...new Set(names)].sort();
  return [
    ...distinct(documents.flatMap(({ tags }) => tags ?? [])).map((tag) => ({ kind: "tags", id: tag, name: `#${clean(tag)}` })),
    ...distinct(documents.flatMap(({ external_id }) => foldersOf(external_id ?? ""))).map((folder) => ({
      kind: "sources", id: folder, name: `${clean(folder)}/`,
    })),
  ];
}

/** As the index has them: the outermost first, and nothing of what stands before a host. */
function foldersOf(externalId) {
  const parts = externalId.split("/").slice(0, -1);
  return parts.map((_, place) => parts.slice(0, place + 1).join("/")).filter((folder) => folder && !/[:/]$/.test(folder));
}

function dayInput(day) {
  return document.getElementById(`filter-${day}`);
}

function shownDay(day) {
  return day && new Date(`${day}T00:00`).toLocaleDateString(language, { dateStyle: "medium" });
}

async function documentsWith(words) {
  const query = new URLSearchParams({ limit: SHOWN_MAX });
  if (words) query.set("q", words);
  const { documents } = await requestJson(`/api/documents?${query}`).catch(() => ({ documents: [] }));
  return documents;
}
