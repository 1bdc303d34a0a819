// Questions to begin with: about the reader's own documents; where there are only the samples, those that came with them.

import { requestJson } from "./api.js";
import { make } from "./page.js";
import { clean } from "./text.js";
import { t } from "./texts.js";

const SHOWN_MAX = 3;
const DOCUMENTS_LOOKED_AT = 50;
const SAMPLE = "sample"; // the tag of the handbook that a first start brings
const TITLE_MAX = 70; // a longer one makes no good question

export async function showStarters(onAsk) {
  const list = document.getElementById("examples");
  const questions = (await own()) ?? (await given());
  list.replaceChildren(...questions.slice(0, SHOWN_MAX).map((question) => starter(question, onAsk)));
  list.hidden = questions.length === 0;
}

/** From the titles of documents that the reader may read; null where there are none but the samples. */
async function own() {
  const { documents } = await requestJson(`/api/documents?state=indexed&limit=${DOCUMENTS_LOOKED_AT}`).catch(() => ({ documents: [] }));
  const titles = documents.filter(({ tags }) => !tags?.includes(SAMPLE)).map((one) => clean(one.own_title ?? one.title).trim());
  const fitting = [...new Set(titles)].filter((title) => title && title.length <= TITLE_MAX);
  return fitting.length === 0 ? null : picked(fitting).map((title) => t("ask.starter", { title }));
}

async function given() {
  const { questions } = await requestJson("/api/examples").catch(() => ({ questions: [] }));
  return questions;
}

/** Some of them, others each time. */
function picked(titles) {
  const left = [...titles];
  const chosen = [];
  while (left.length > 0 && chosen.length < SHOWN_MAX) chosen.push(...left.splice(Math.floor(Math.random() * left.length), 1));
  return chosen;
}

function starter(question, onAsk) {
  const item = make("li", "");
  const button = make("button", "example", question);
  button.type = "button";
  button.dir = "auto";
  button.dataset.testid = "example";
  button.addEventListener("click", () => onAsk(question));
  item.append(button);
  return item;
}
