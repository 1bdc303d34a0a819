// A document's passages as elements: headings once, tables as tables, the cited passage and the sentence that was used marked.

import { make } from "./page.js";
import { clean, HEADINGS, headingsOf } from "./text.js";
import { t } from "./texts.js";

const CELL = " | ";

/** `cited` is the ordinal of a passage, `used` a sentence of it. */
export function drawPassages(shown, { cited, used }) {
  let before = { page: null, path: [] };
  return shown.passages.flatMap((passage) => {
    const path = headingsOf(passage.heading, shown.title);
    const { headings, blocks } = parted(clean(passage.text), [shown.title, ...path]);
    const elements = [
      ...(passage.page && passage.page !== before.page ? [pageMark(passage.page)] : []),
      ...drawHeadings(headings, path, before.path, shown.title),
      drawPassage(passage, blocks, passage.ordinal === cited ? clean(used) : null),
    ];
    before = { page: passage.page ?? before.page, path };
    return elements.filter(Boolean);
  });
}

/** The headings that a passage begins with, and the rest of it. */
function parted(text, path) {
  const blocks = text.split("\n\n").filter((block) => block.trim());
  const headings = [];
  while (blocks.length > 0 && path.includes(blocks[0].trim())) headings.push(blocks.shift().trim());
  return { headings, blocks };
}

/** Those of the passage itself; where it goes on below others than before, their path. */
function drawHeadings(headings, path, before, title) {
  const own = headings.filter((heading) => heading !== title);
  const above = path.filter((part) => !own.includes(part));
  const isNew = above.some((part, place) => part !== before[place]);
  return [
    ...(isNew && above.length > 0 ? [make("p", "passage-path", above.join(HEADINGS))] : []),
    ...own.map((heading) => directed(make("h3", "passage-heading", heading))),
  ];
}

function pageMark(page) {
  const mark = make("p", "page-mark", t("reader.page", { n: page }));
  mark.dataset.page = page;
  return mark;
}

/** `used` is null in a passage that is not the cited one. */
function drawPassage(passage, blocks, used) {
  if (blocks.length === 0 && used === null) return null; // headings alone
  const element = make("div", used === null ? "passage" : "passage cited");
  element.dataset.ordinal = passage.ordinal;
  element.dataset.testid = "passage";
  element.append(...blocks.map((block) => drawBlock(block, used)));
  if (used === null) return element;
  element.tabIndex = -1;
  element.setAttribute("aria-label", t("reader.cited"));
  element.setAttribute("role", "group");
  return element;
}

function drawBlock(block, used) {
  const rows = block.split("\n").map((line) => line.split(CELL));
  if (rows.length > 1 && rows[0].length > 1 && rows.every((row) => row.length === rows[0].length)) return drawTable(rows, used);
  const paragraph = directed(make("p", ""));
  paragraph.append(...marked(block, used));
  return paragraph;
}

function drawTable(rows, used) {
  const scroller = make("div", "table");
  const table = make("table", "");
  scroller.tabIndex = 0;
  scroller.setAttribute("role", "group");
  scroller.setAttribute("aria-label", t("reader.table"));
  rows.forEach((cells, place) => {
    const row = make("tr", used && cells.join(CELL).trim() === used ? "used" : "");
    if (row.className) row.dataset.testid = "used";
    row.append(...cells.map((cell) => directed(make(place === 0 ? "th" : "td", "", cell))));
    table.append(row);
  });
  scroller.append(table);
  return scroller;
}

/** The text with the sentence in it marked. */
function marked(text, used) {
  const at = used ? text.indexOf(used) : -1;
  if (at < 0) return [text];
  const mark = make("mark", "used", used);
  mark.dataset.testid = "used";
  return [text.slice(0, at), mark, text.slice(at + used.length)];
}

function directed(element) {
  element.dir = "auto";
  return element;
}
