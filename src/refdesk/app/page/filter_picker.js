// Choosing a tag or a document to ask about, by a few of its letters.

import { requestJson } from "./api.js";
import { make } from "./page.js";
import { clean } from "./text.js";
import { t } from "./texts.js";

const SHOWN_MAX = 8;
const TAGS_FROM = 200; // documents whose tags are offered
const WAIT_MS = 200;

export class FilterPicker {
  #input = document.getElementById("filter-words");
  #list = document.getElementById("filter-found");
  #onChoose;
  #chosen = [];
  #tags = null; // the promise of them
  #looking = 0;
  #timer = null;

  constructor(onChoose) {
    this.#onChoose = onChoose;
    this.#input.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#look(), WAIT_MS);
    });
    this.#input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.#list.querySelector("button")?.click();
    });
  }

  show(chosen) {
    this.#chosen = chosen;
    this.#tags = tagsOf();
    this.#input.value = "";
    this.#input.focus();
    return this.#look();
  }

  async #look() {
    const looking = ++this.#looking;
    const words = this.#input.value.trim();
    const [tags, documents] = await Promise.all([this.#tags, documentsWith(words)]);
    if (looking !== this.#looking) return;
    const matching = tags.filter((tag) => tag.toLowerCase().includes(words.toLowerCase().replace(/^#/, "")));
    const found = [
      ...matching.map((tag) => ({ kind: "tag", id: tag, name: tag })),
      ...documents.map((one) => ({ kind: "document", id: one.id, name: clean(one.own_title ?? one.title) })),
    ].filter((one) => !this.#chosen.some(({ kind, id }) => kind === one.kind && id === one.id));
    this.#list.replaceChildren(...found.slice(0, SHOWN_MAX).map((one) => this.#choice(one)));
    if (found.length === 0) this.#list.append(make("li", "small", t("filter.nothing")));
  }

  #choice(one) {
    const item = make("li", "");
    const button = make("button", "quiet", one.kind === "tag" ? `#${one.name}` : one.name);
    button.type = "button";
    button.dir = "auto";
    button.dataset.testid = "filter-choice";
    button.addEventListener("click", () => this.#onChoose(one));
    item.append(button);
    return item;
  }
}

async function tagsOf() {
  const { documents } = await requestJson(`/api/documents?limit=${TAGS_FROM}`).catch(() => ({ documents: [] }));
  return [...new Set(documents.flatMap(({ tags }) => tags ?? []))].sort();
}

async function documentsWith(words) {
  const query = new URLSearchParams({ limit: SHOWN_MAX });
  if (words) query.set("q", words);
  const { documents } = await requestJson(`/api/documents?${query}`).catch(() => ({ documents: [] }));
  return documents;
}
