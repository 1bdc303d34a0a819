// What the documents do not answer. For curators: these are other people's questions.

import { request, requestJson } from "./api.js";
import { joined, moment } from "./format.js";
import { announce, make, part, passageHash, stamp } from "./page.js";
import { attempt, write } from "./text.js";
import { t } from "./texts.js";

const PATH = "/api/gaps";

export class View {
  #problem = document.getElementById("gaps-problem");
  #state = document.getElementById("gaps-state");
  #list = document.getElementById("gaps");
  #more = document.getElementById("gaps-more");
  #cursor = null;

  start() {
    this.#state.addEventListener("change", () => this.enter());
    this.#more.addEventListener("click", () => attempt(this.#problem, () => this.#load(this.#cursor)));
  }

  enter() {
    return attempt(this.#problem, () => this.#load(null));
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
    const people = t("gaps.people", { n: gap.askers });
    write(part(row, "question"), gap.question);
    write(part(row, "about"), joined(t("gaps.asked", { n: gap.questions, people }), t("gaps.last", { when: moment(gap.last_at) })));
    part(row, "document").hidden = !gap.answered_by;
    part(row, "document").href = passageHash(gap.answered_by ?? "");
    part(row, "dismiss").addEventListener("click", () => this.#dismiss(gap, row));
    part(row, "details").addEventListener("toggle", () => attempt(this.#problem, () => showQuestions(gap, row)));
    return row;
  }

  #dismiss(gap, row) {
    return attempt(this.#problem, async () => {
      await request(`${PATH}/${gap.id}`, { method: "DELETE" });
      row.remove();
      announce(t("gaps.put_away"));
      document.getElementById("gaps-title").focus();
    });
  }
}

async function showQuestions(gap, row) {
  const list = part(row, "questions");
  if (!part(row, "details").open || list.children.length) return;
  const { questions } = await requestJson(`${PATH}/${gap.id}`);
  list.append(...questions.map((one) => make("li", "", joined(one.question, t(`gap_reason.${one.reason}`), moment(one.asked_at)))));
}
