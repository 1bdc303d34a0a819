// What askers said of their answers. For curators: these are other people's questions.

import { requestJson } from "./api.js";
import { joined, moment } from "./format.js";
import { make, part, passageHash, stamp } from "./page.js";
import { attempt, write, writeOrHide } from "./text.js";
import { t } from "./texts.js";

const PATH = "/api/feedback";

export class View {
  #problem = document.getElementById("feedback-problem");
  #rating = document.getElementById("feedback-rating");
  #list = document.getElementById("feedback");
  #more = document.getElementById("feedback-more");
  #cursor = null;

  start() {
    this.#rating.addEventListener("change", () => this.enter());
    this.#more.addEventListener("click", () => attempt(this.#problem, () => this.#load(this.#cursor)));
  }

  enter() {
    return attempt(this.#problem, () => this.#load(null));
  }

  async #load(cursor) {
    const query = new URLSearchParams({ limit: 50, rating: this.#rating.value, cursor: cursor ?? "" });
    const page = await requestJson(`${PATH}?${query}`);
    const rows = page.rated.map(ratingRow);
    if (cursor) this.#list.append(...rows);
    else this.#list.replaceChildren(...rows);
    this.#cursor = page.next_cursor;
    this.#more.hidden = !page.next_cursor;
    document.getElementById("feedback-empty").hidden = this.#list.children.length > 0;
  }
}

function ratingRow(one) {
  const row = stamp("rating-template");
  write(part(row, "question"), one.question);
  writeOrHide(part(row, "comment"), one.comment ?? "");
  write(part(row, "about"), joined(t(`usefulness.${one.rating}`), one.finish_reason && t(`finish.${one.finish_reason}`), moment(one.rated_at)));
  part(row, "details").addEventListener("toggle", () => showAnswer(one, row));
  return row;
}

/** The answer is fetched when somebody looks; whoever may not read its evidence is told so. */
async function showAnswer(one, row) {
  if (!part(row, "details").open || part(row, "answer").textContent) return;
  try {
    const answer = await requestJson(`${PATH}/${one.answer_id}`);
    write(part(row, "answer"), answer.text || t("ratings.silent"));
    part(row, "sources").append(...answer.sources.map(source));
  } catch (refusal) {
    write(part(row, "answer"), refusal.status === 404 ? t("ratings.gone") : refusal.message);
  }
}

function source({ n, document_id, ordinal, title, passage }) {
  const entry = make("li", "");
  const link = make("a", "", `[${n}] ${title}`);
  link.href = passageHash(document_id, ordinal);
  entry.append(link, make("p", "small", passage));
  return entry;
}
