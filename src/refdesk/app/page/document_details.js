// One document: what it is, who may read it, its tags, another file in its place, and its versions with what changed.

import { documentPath, request, requestJson, upload } from "./api.js";
import { namesIn } from "./bulk.js";
import { mayChange, nameOf, stepTimes } from "./document_row.js";
import { bytes, joined, mediaType, moment } from "./format.js";
import { make, part, stamp } from "./page.js";
import { attempt, write } from "./text.js";
import { t } from "./texts.js";

const MARKS = { added: "+ ", removed: "− ", same: "  ", skipped: "" };

export class DocumentDetails {
  #dialog = document.getElementById("document-dialog");
  #form = document.getElementById("document-form");
  #problem = document.getElementById("document-problem");
  #shown = null;
  #isTouched = false; // somebody is writing in the form
  #onChanged;

  /** `onChanged` gets the document as a change has left it. */
  constructor(onChanged) {
    this.#onChanged = onChanged;
    document.getElementById("document-close").addEventListener("click", () => this.#dialog.close());
    this.#form.addEventListener("input", () => { this.#isTouched = true; });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(this.#problem, () => this.#save());
    });
    document.getElementById("replace-input").addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = "";
      if (file) attempt(this.#problem, () => this.#replace(file));
    });
  }

  open(shown) {
    this.#draw(shown);
    this.#dialog.showModal();
    document.getElementById("document-close").focus();
    return attempt(this.#problem, async () => {
      const newest = await requestJson(documentPath(shown.id));
      if (!this.#isTouched) this.#draw(newest);
      await this.#drawVersions();
    });
  }

  #draw(shown) {
    this.#shown = shown;
    this.#isTouched = false;
    write(document.getElementById("document-title"), nameOf(shown));
    const facts = document.getElementById("document-facts");
    facts.replaceChildren(...factsOf(shown).flatMap(([term, text]) => [make("dt", "", term), make("dd", "", text)]));
    this.#form.hidden = !mayChange(shown);
    this.#form.elements.title.value = shown.title;
    this.#form.elements.tags.value = shown.tags.join(", ");
    this.#form.elements.readers.value = shown.readers.join(", ");
  }

  async #save() {
    const { title, tags, readers } = this.#form.elements;
    const json = { title: title.value.trim(), tags: namesIn(tags.value), readers: namesIn(readers.value) };
    await this.#changed(await requestJson(documentPath(this.#shown.id), { method: "PUT", json, headers: this.#asRead() }));
  }

  async #replace(file) {
    const note = document.getElementById("replace-note");
    const say = (share) => write(note, share < 1 ? `${Math.round(share * 100)} %` : t("uploads.received"));
    const replaced = await upload(documentPath(this.#shown.id), { method: "PUT", file }, say);
    write(note, replaced.version === this.#shown.version ? t("details.already") : t("details.now", { n: replaced.version }));
    await this.#changed(replaced);
  }

  async #changed(shown) {
    this.#draw(shown);
    this.#onChanged(shown);
    await this.#drawVersions();
  }

  /** A change that somebody else made since is not overwritten. */
  #asRead() {
    return { "If-Match": `"${this.#shown.version}"` };
  }

  async #drawVersions() {
    const { versions } = await requestJson(documentPath(this.#shown.id, "/versions"));
    document.getElementById("document-versions").replaceChildren(...versions.map((one, place) => this.#version(one, versions[place + 1])));
  }

  #version(one, before) {
    const row = stamp("version-template");
    write(part(row, "about"), joined(t("details.version", { n: one.version }), moment(one.occurred_at), bytes(one.content_bytes), ...differences(one, before)));
    const button = part(row, "compare");
    button.hidden = !before || before.content_sha256 === one.content_sha256;
    button.setAttribute("aria-label", t("details.changed_in", { n: one.version }));
    button.addEventListener("click", () => attempt(this.#problem, () => this.#compare(row, one, before)));
    return row;
  }

  async #compare(row, one, before) {
    const place = part(row, "changes");
    const button = part(row, "compare");
    button.setAttribute("aria-expanded", String(place.hidden));
    place.hidden = !place.hidden;
    if (place.hidden || place.childElementCount > 0) return;
    const path = documentPath(this.#shown.id, `/versions/${one.version}/changes?since=${before.version}`);
    const changes = await requestJson(path);
    place.replaceChildren(...changes.lines.map(lineOf));
    if (changes.lines.length === 0) place.append(make("p", "small", t("details.same")));
  }
}

function factsOf(shown) {
  return [
    [t("details.type"), joined(mediaType(shown.media_type), bytes(shown.content_bytes))],
    [t("details.added"), moment(shown.created_at)],
    [t("details.changed"), moment(shown.updated_at)],
    [t("documents.owner"), shown.owner],
    [t("details.source_name"), shown.external_id],
    [t("state.title"), (shown.state === "indexed" && stepTimes(shown)) || joined(t(`state.${shown.state}`), shown.failure)],
  ].filter(([, text]) => text);
}

/** What else is not as in the version before. */
function differences(one, before) {
  if (!before) return [t(`change.${one.change}`)];
  const same = (name) => String(one[name]) === String(before[name]);
  return [
    !same("title") && t("details.title_was", { title: one.title }),
    !same("readers") && t("details.readers_were", { names: one.readers.join(", ") || t("details.owner_alone") }),
    !same("content_sha256") && t("details.content"),
  ];
}

function lineOf({ kind, text, count }) {
  if (kind === "skipped") return make("p", "diff-skipped", t("details.skipped", { n: count }));
  const line = make("p", `diff-${kind}`);
  line.append(make("span", "diff-mark", MARKS[kind]), make({ added: "ins", removed: "del", same: "span" }[kind], "", text));
  return line;
}
