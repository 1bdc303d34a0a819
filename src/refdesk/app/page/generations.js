// The generations of the index: the one that is searched, and building, comparing, exchanging and discarding one beside it.

import { request, requestJson } from "./api.js";
import { joined, seconds } from "./format.js";
import { announce, make } from "./page.js";
import { isSure } from "./sure.js";
import { attempt, write, writeOrHide } from "./text.js";
import { language, t } from "./texts.js";

const PATH = "/api/index/generations";
const BUILDING_LOOK_MS = 2000;
const LOOK_MS = 15000;

export class Generations {
  #list = document.getElementById("operations-generations");
  #problem = document.getElementById("generations-problem");
  #said = document.getElementById("generations-said");
  #buttons = {};
  #known = { generations: [] };
  #pace = null; // {id, chunks, at}: since when its chunks are counted
  #timer = null;
  #shown = false;

  start() {
    const actions = { rebuild: () => this.#rebuild(), compare: () => this.#compare(), swap: () => this.#swap(), discard: () => this.#discard() };
    for (const [name, work] of Object.entries(actions)) {
      this.#buttons[name] = document.getElementById(`generations-${name}`);
      this.#buttons[name].addEventListener("click", () => this.#do(work));
    }
  }

  enter() {
    this.#shown = true;
    return this.#refresh();
  }

  leave() {
    this.#shown = false;
    clearTimeout(this.#timer);
  }

  /** How many documents there are to be compared, in all generations. */
  get documents() {
    return this.#known.generations.reduce((sum, one) => sum + one.documents, 0);
  }

  get #active() {
    return this.#known.generations[0] ?? null;
  }

  get #beside() {
    return this.#known.generations[1] ?? null;
  }

  async #refresh() {
    clearTimeout(this.#timer);
    const wasBuilding = isBuilding(this.#active, this.#beside);
    this.#known = await requestJson(PATH).catch(() => this.#known);
    const building = isBuilding(this.#active, this.#beside);
    if (wasBuilding && this.#beside && !building) announce(t("index.built", { id: String(this.#beside.id) }));
    this.#list.replaceChildren(...this.#known.generations.map((one) => make("li", "", described(one))));
    this.#showButtons(building);
    this.#showProgress(building);
    if (this.#shown) this.#timer = setTimeout(() => this.#refresh(), building ? BUILDING_LOOK_MS : LOOK_MS);
  }

  #showButtons(building) {
    const active = this.#active;
    const beside = this.#beside;
    const { rebuild, compare, swap, discard } = this.#buttons;
    const why = active && !beside && this.#known.differs;
    rebuild.hidden = !why;
    writeOrHide(document.getElementById("generations-why"), why ? t(`differs.${why}`) : "");
    compare.hidden = swap.hidden = !beside || beside.documents_behind > 0;
    discard.hidden = !beside;
    if (!beside) return;
    write(swap, t(beside.id > active.id ? "index.swap" : "index.return", { id: String(beside.id) }));
    write(discard, t(building ? "index.cancel" : "index.discard", { id: String(beside.id) }));
  }

  #showProgress(building) {
    const bar = document.getElementById("generations-progress");
    const beside = this.#beside;
    bar.hidden = !building;
    if (!building) {
      this.#pace = null;
      return writeOrHide(document.getElementById("generations-so-far"), "");
    }
    const total = this.#active.documents;
    const done = Math.max(0, total - beside.documents_behind);
    bar.max = total || 1;
    bar.value = done;
    writeOrHide(document.getElementById("generations-so-far"), joined(
      t("index.done_of", { done, n: total }), t("index.chunks", { n: beside.chunks }), this.#left(beside, done, total),
    ));
  }

  /** How long it will take at the pace seen so far; empty while that is not known. */
  #left({ id, chunks }, done, total) {
    const at = performance.now() / 1000;
    if (this.#pace?.id !== id) this.#pace = { id, chunks, at };
    const rate = (chunks - this.#pace.chunks) / (at - this.#pace.at || 1);
    if (rate <= 0 || !done) return "";
    return t("index.left", { duration: seconds((chunks * (total - done)) / done / rate) });
  }

  async #do(work) {
    const buttons = Object.values(this.#buttons);
    buttons.forEach((button) => { button.disabled = true; });
    await attempt(this.#problem, work);
    buttons.forEach((button) => { button.disabled = false; });
    await this.#refresh();
  }

  async #rebuild() {
    const { configured_model: model, configured_engine: engine } = this.#known;
    const size = sizeOf(this.#active);
    if (!(await isSure({ title: t("index.rebuild_title"), text: t("index.rebuild_text", { size, model, engine }), yes: t("index.rebuild") }))) return;
    await requestJson(PATH, { method: "POST", json: {} });
    writeOrHide(this.#said, "");
  }

  async #compare() {
    writeOrHide(this.#said, t("index.asking"));
    const found = await requestJson(`${PATH}/${this.#beside.id}/compare`, { method: "POST", json: {} }).catch((problem) => {
      writeOrHide(this.#said, "");
      throw problem;
    });
    const share = found.overlap.toLocaleString(language, { style: "percent", maximumFractionDigits: 0 });
    const values = { n: found.questions, share, k: found.k, expected: found.expected, before: found.found_active, now: found.found_beside };
    writeOrHide(this.#said, [t("index.overlap", values), found.expected ? t("index.found", values) : ""].join(" ").trim());
  }

  async #swap() {
    const { id, gaps_count: gaps } = this.#beside;
    const yes = this.#buttons.swap.textContent;
    const text = [t("index.swap_text"), gaps ? t("index.gaps", { n: gaps }) : ""].join(" ").trim();
    if (!(await isSure({ title: `${yes}?`, text, yes }))) return;
    await requestJson(`${PATH}/${id}/activate`, { method: "POST", json: { with_gaps: gaps > 0 } });
    writeOrHide(this.#said, t("index.swapped", { id: String(id) }));
  }

  async #discard() {
    const { id } = this.#beside;
    const yes = this.#buttons.discard.textContent;
    if (!(await isSure({ title: `${yes}?`, text: t("index.discard_text", { size: sizeOf(this.#beside) }), yes, danger: true }))) return;
    await request(`${PATH}/${id}`, { method: "DELETE" });
    writeOrHide(this.#said, t("index.discarded", { id: String(id) }));
  }
}

/** Whether the one beside is a new one that lacks documents yet. */
function isBuilding(active, beside) {
  return Boolean(beside) && beside.id > active.id && beside.documents_behind > 0;
}

function sizeOf({ documents, chunks }) {
  return `${t("documents.count", { n: documents })} (${t("index.chunks", { n: chunks })})`;
}

function described(one) {
  const behind = one.documents_behind ?? 0;
  const state = one.active ? t("index.searched") : behind ? t("index.behind", { n: behind }) : t("index.ready");
  return joined(t("index.generation", { id: String(one.id) }), one.model, one.engine, t("documents.count", { n: one.documents }), t("index.chunks", { n: one.chunks }), state, one.problem);
}
