// What else can be asked below a whole answer: other sections that were found for it, of a document that it cites.
// A section is asked for by its name, the title and the headings above it as the index has them: that is right in every language, and
// leans on nothing that was asked before (answering/follow_ups.py).

import { make, part } from "./page.js";
import { clean, HEADINGS, headingsOf } from "./text.js";
import { t } from "./texts.js";

const SHOWN_MAX = 3;
const CHARACTERS_MAX = 120; // a longer name makes no good question

/** The title and the path of headings of a source; empty where it lies under none. */
export function sectionOf({ title, heading }) {
  const path = headingsOf(heading, title);
  return path.length > 0 ? clean([title, ...path].join(HEADINGS)).trim() : "";
}

/** `sources` are as found, `cited` their numbers in the order of the answer, `read` the names of sections that need no offering. */
export function drawTopics(turn, sources, { cited, read }) {
  const documents = [...cited].map((n) => sources.find((source) => source.n === n).document_id);
  const found = sources.filter((source) => isTopic(sectionOf(source)) && !read.has(sectionOf(source)));
  const first = documents.find((id) => found.some((source) => source.document_id === id));
  const own = found.filter((source) => source.document_id === first);
  const topics = new Map(own.map((source) => [sectionOf(source), source]));
  part(turn, "topics").hidden = topics.size === 0;
  if (topics.size === 0) return;
  part(turn, "topics-title").textContent = t("turn.topics", { title: clean(own[0].title) });
  part(turn, "topics-list").replaceChildren(...[...topics].slice(0, SHOWN_MAX).map(([section, source]) => topic(section, source)));
}

function isTopic(section) {
  return section.length > 0 && section.length <= CHARACTERS_MAX;
}

function topic(section, source) {
  const item = make("li", "");
  const button = make("button", "example", headingsOf(source.heading, source.title).join(HEADINGS));
  button.type = "button";
  button.dir = "auto";
  button.dataset.asks = section;
  button.dataset.testid = "topic";
  item.append(button);
  return item;
}
