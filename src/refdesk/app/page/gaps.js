// What the documents do not answer. For curators: these are other people's questions.

import { request, requestJson } from "./api.js";
import { joined, moment, plural } from "./format.js";
import { announce, make, part, passageHash, stamp } from "./page.js";
import { write, writeOrHide } from "./text.js";

const PATH = "/api/gaps";
const REASONS = { not_found: "not found", closest: "only the closest passages", rated_down: "rated as not useful" };

export class View {
  #state = document.getElementById("gaps-state");
  #list = document.getElementById("gaps");
  #more = document.getElementById("gaps-more");
  #cursor = null;

  start() {
    this.#state.addEventListener("change", () => this.enter());
    this.#more.addEventListener("click", () => this.#attempt(() => this.#load(this.#cursor)));
  }

  enter() {
    return this.#attempt(() => this.#load(null));
  }

  async #load(cursor) {
    const query = new URLSearchParams({ state: this.#state.value, cursor: cursor ?? "" });
    const page = await requestJson(`${PATH}?${query}`);
    const rows = page.gaps.map((gap) => this.#row(gap));
    if (cursor) this.#list.append(...rows);
    else this.#list.replaceChildren(...rows);
    this.#cursor = page.next_cursor;
    this.#more.hidden = !page.next_cursor;
    document.getElementById("gaps-empty").hidden = this.#list.children.length > 0;
  }

  #row(gap) {
    const row = stamp("gap-template");
    const people = gap.askers === 1 ? "one person" : `${gap.askers} people`;
    write(part(row, "question"), gap.question);
    write(part(row, "about"), joined(`asked ${plural(gap.questions, "time")} by ${people}`, `last ${moment(gap.last_at)}`));
    part(row, "document").hidden = !gap.answered_by;
    part(row, "document").href = passageHash(gap.answered_by ?? "");
    part(row, "dismiss").addEventListener("click", () => this.#dismiss(gap, row));
    part(row, "details").addEventListener("toggle", () => this.#attempt(() => showQuestions(gap, row)));
    return row;
  }

  #dismiss(gap, row) {
    return this.#attempt(async () => {
      await request(`${PATH}/${gap.id}`, { method: "DELETE" });
      row.remove();
      announce("Put away.");
      document.getElementById("gaps-title").focus();
    });
  }

  async #attempt(work) {
    const problem = document.getElementById("gaps-problem");
    try {
      await work();
      writeOrHide(problem, "");
    } catch (refusal) {
      writeOrHide(problem, refusal.message);
    }
  }
}

async function showQuestions(gap, row) {
  const list = part(row, "questions");
  if (!part(row, "details").open || list.children.length) return;
  const { questions } = await requestJson(`${PATH}/${gap.id}`);
  list.append(...questions.map((one) => make("li", "", joined(one.question, REASONS[one.reason], moment(one.asked_at)))));
}
