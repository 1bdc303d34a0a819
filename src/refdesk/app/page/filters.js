// What a question is answered from: chips of tags, sources, documents and days beside the box; nothing chosen means everything.

import { make } from "./page.js";
import { clean } from "./text.js";
import { t } from "./texts.js";

const DAYS = ["since", "until"]; // of which there is one at most

export class Filters {
  #chips = document.getElementById("filter-chips");
  #button = document.getElementById("filter-button");
  #panel = document.getElementById("filter-panel");
  #chosen = []; // {kind, id, name}; each kind is a field of the service's
  #picker = null;

  constructor() {
    this.#panel.addEventListener("beforetoggle", (event) => {
      if (event.newState === "open") this.#open();
      else document.getElementById("filter-words").value = ""; // not on opening: one may write before the picker is there
    });
  }

  /** As the service takes it; undefined where nothing is chosen. */
  get value() {
    if (this.#chosen.length === 0) return undefined;
    const value = {};
    for (const { kind, id } of this.#chosen) {
      if (DAYS.includes(kind)) value[kind] = id;
      else (value[kind] ??= []).push(id);
    }
    return value;
  }

  async #open() {
    this.#picker ??= import("./filter_picker.js").then(({ FilterPicker }) => new FilterPicker((one) => this.#add(one)));
    (await this.#picker).show(this.#chosen);
  }

  #add(one) {
    const isTaken = ({ kind, id }) => kind === one.kind && (DAYS.includes(kind) || id === one.id);
    this.#chosen = [...this.#chosen.filter((other) => !isTaken(other)), ...(one.id ? [one] : [])];
    if (DAYS.includes(one.kind)) return this.#draw();
    this.#panel.hidePopover();
    this.#draw();
    this.#button.focus();
  }

  #remove(one) {
    this.#chosen = this.#chosen.filter((other) => other !== one);
    this.#draw();
    this.#button.focus();
  }

  #draw() {
    this.#chips.replaceChildren(...this.#chosen.map((one) => this.#chip(one)));
    this.#chips.hidden = this.#chosen.length === 0;
  }

  #chip(one) {
    const item = make("li", "");
    const button = make("button", "chip", one.name);
    button.type = "button";
    button.dir = "auto";
    button.dataset.testid = "filter-chip";
    button.setAttribute("aria-label", t("filter.remove", { name: clean(one.name) }));
    button.addEventListener("click", () => this.#remove(one));
    item.append(button);
    return item;
  }
}
