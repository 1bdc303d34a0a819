// What a question is answered from: chips of tags and documents beside the box; nothing chosen means everything.

import { make } from "./page.js";
import { clean } from "./text.js";
import { t } from "./texts.js";

export class Filters {
  #chips = document.getElementById("filter-chips");
  #button = document.getElementById("filter-button");
  #panel = document.getElementById("filter-panel");
  #chosen = []; // {kind: "tag" | "document", id, name}
  #picker = null;

  constructor() {
    this.#panel.addEventListener("beforetoggle", (event) => {
      if (event.newState === "open") this.#open();
    });
  }

  /** As the service takes it; undefined where nothing is chosen. */
  get value() {
    if (this.#chosen.length === 0) return undefined;
    const ids = (kind) => this.#chosen.filter((one) => one.kind === kind).map((one) => one.id);
    return { tags: ids("tag"), document_ids: ids("document") };
  }

  async #open() {
    this.#picker ??= import("./filter_picker.js").then(({ FilterPicker }) => new FilterPicker((one) => this.#add(one)));
    (await this.#picker).show(this.#chosen);
  }

  #add(one) {
    if (!this.#chosen.some(({ kind, id }) => kind === one.kind && id === one.id)) this.#chosen.push(one);
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
    const button = make("button", "chip", one.kind === "tag" ? `#${one.name}` : one.name);
    button.type = "button";
    button.dir = "auto";
    button.dataset.testid = "filter-chip";
    button.setAttribute("aria-label", t("filter.remove", { name: clean(one.name) }));
    button.addEventListener("click", () => this.#remove(one));
    item.append(button);
    return item;
  }
}
