// How the desk does: every part, what happens and has happened, who waits. For those who run it; it shows nobody's words.

import { requestJson } from "./api.js";
import { IndexCare } from "./index_care.js";
import { may } from "./me.js";
import { make } from "./page.js";
import { cell, draw, figure, plotElement, row, sayNow } from "./plots.js";
import { attempt, write } from "./text.js";
import { t } from "./texts.js";

const PATH = "/api/operations";
const REFRESH_MS = 15000;

export class View {
  #problem = document.getElementById("operations-problem");
  #range = document.getElementById("operations-range");
  #plots = document.getElementById("operations-plots");
  #care = new IndexCare();
  #timer = null;
  #shown = false;
  #asked = 0;

  start() {
    this.#range.addEventListener("change", () => this.#refresh());
    document.getElementById("operations-settings").addEventListener("toggle", (event) => event.target.open && attempt(this.#problem, showSettings));
    document.addEventListener("visibilitychange", () => this.#shown && !document.hidden && this.#refresh());
    this.#care.start();
  }

  enter() {
    this.#shown = true;
    this.#care.enter();
    may("audit.read").then((is) => { document.getElementById("operations-audit").hidden = !is; });
    return this.#refresh();
  }

  leave() {
    this.#shown = false;
    this.#care.leave();
    clearTimeout(this.#timer);
  }

  async #refresh() {
    clearTimeout(this.#timer);
    await attempt(this.#problem, async () => {
      const own = ++this.#asked;
      const overview = await requestJson(PATH);
      if (own !== this.#asked) return; // another range was chosen meanwhile
      showParts(overview);
      showSlow(overview.slow);
      await this.#showPlots(overview);
    });
    if (this.#shown && !document.hidden) this.#timer = setTimeout(() => this.#refresh(), REFRESH_MS);
  }

  async #showPlots({ plots, currency }) {
    document.getElementById("operations-plots-empty").hidden = Boolean(plots);
    this.#plots.hidden = !plots;
    await Promise.all((plots ?? []).map(async (view) => {
      const element = this.#plots.querySelector(`[data-metric="${view.metric}"]`) ?? this.#plots.appendChild(plotElement(view));
      sayNow(element, view, currency);
      const range = this.#range.value;
      const history = await requestJson(`${PATH}/history?metric=${view.metric}&range=${range}`);
      if (range === this.#range.value) draw(element, history, currency);
    }));
  }
}

function showParts({ status, culprits, parts }) {
  const verdict = document.getElementById("operations-status");
  verdict.dataset.level = status;
  write(verdict, [t(`verdict.${status}`), culprits.join(", ")].filter(Boolean).join(": "));
  document.getElementById("operations-parts").replaceChildren(...together(parts).map((one) => {
    const element = row("td", []);
    const state = cell("td", one.why || t(`level.${one.level}`));
    state.dataset.level = one.level;
    element.append(cell("th", one.name, { scope: "row" }), cell("td", one.processes.join(", ")), state);
    return element;
  }));
}

/** What several processes say of a part in the same words, as one. */
function together(parts) {
  const said = new Map();
  for (const { process, ...part } of parts) {
    const key = JSON.stringify([part.name, part.level, part.why]);
    if (!said.has(key)) said.set(key, { ...part, processes: [] });
    said.get(key).processes.push(process);
  }
  return [...said.values()];
}

function showSlow(slow) {
  document.getElementById("operations-slow-empty").hidden = slow.length > 0;
  document.getElementById("operations-slow").replaceChildren(
    ...slow.map((one) => make("li", "", `${one.principal_id} · ${t(`slow.${one.state}`)} · ${figure(one.seconds, "seconds")}`)),
  );
}

async function showSettings() {
  const { settings } = await requestJson(`${PATH}/settings`);
  document.getElementById("operations-settings-rows").replaceChildren(...settings.map((one) => {
    const element = row("td", []);
    element.append(cell("th", one.name, { scope: "row" }), cell("td", one.value || "–"), cell("td", one.origin));
    return element;
  }));
}
