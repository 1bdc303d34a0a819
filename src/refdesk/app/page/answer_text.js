// The text of an answer as elements: Markdown, its sentences and their citations. Nothing of it becomes HTML, a link or a request.
//
// What is drawn depends on the text and its sentences alone, not on how they came: each time all of it is built anew and what
// stands already is changed only where it differs. So nothing flickers, and focus and selection stay.

import { readBlocks, readQuotes } from "./blocks.js";
import { CODE, DELETED, EMPHASIS, readInlines, readQuoted, STRONG } from "./inlines.js";
import { make } from "./page.js";
import { t } from "./texts.js";

const ELEMENTS = [[STRONG, "STRONG"], [EMPHASIS, "EM"], [DELETED, "DEL"], [CODE, "CODE"]];
const DIRECTED = new Set(["p", "ul", "ol", "blockquote", "table", "h3", "h4", "h5", "h6"]); // each may be of another script
const HEADING_BELOW = 2; // the question above the answer has the second level
const HEADING_LEVEL_MAX = 6;

/**
 * `answer` is `{text, sentences, growing, quoted}`; a sentence is `{begins, ends, citations, support}`, its place in the text.
 * `citation(n, sentence)` makes the element for a source's number in that sentence, or null when there is no such source.
 */
export function drawAnswer(root, answer, citation) {
  become(root, new Drawing(answer, citation).draw());
}

/** What is read aloud of a sentence. */
export function spoken(sentence, { quoted }) {
  const [blocks, read] = quoted ? [readQuotes(sentence), readQuoted] : [readBlocks(sentence), readInlines];
  const said = (lines) => read(lines).map((run) => run.text ?? "").join("");
  const words = (block) => {
    if (block.kind === "table") return block.rows.flat().map((cell) => said([cell])).join(", ");
    if (block.kind === "list") return block.items.flatMap((item) => item.blocks).map(words).join(" ");
    return block.blocks?.map(words).join(" ") ?? said(block.lines ?? []);
  };
  return blocks.map(words).join(" ").trim();
}

class Drawing {
  #answer;
  #citation;
  #nextSentence = 0; // the first that has not ended before what is drawn
  #spans; // of each sentence
  #cited; // the sources each shows

  constructor(answer, citation) {
    this.#answer = answer;
    this.#citation = citation;
    this.#spans = answer.sentences.map(() => []);
    this.#cited = answer.sentences.map(() => new Set());
  }

  draw() {
    const { text, growing, quoted } = this.#answer;
    const root = document.createDocumentFragment();
    this.#blocks(root, quoted ? readQuotes(text) : readBlocks(text, { growing }), growing);
    this.#answer.sentences.forEach((sentence, index) => this.#finish(sentence, index));
    return root;
  }

  #blocks(parent, blocks, growing) {
    blocks.forEach((block, index) => this[`draw_${block.kind}`](parent, block, growing && index === blocks.length - 1));
  }

  draw_paragraph(parent, { lines }, growing) {
    this.#inlines(added(parent, "p"), lines, growing);
  }

  draw_heading(parent, { level, lines }, growing) {
    this.#inlines(added(parent, `h${Math.min(HEADING_LEVEL_MAX, level + HEADING_BELOW)}`), lines, growing);
  }

  draw_code(parent, { lines }) {
    const block = added(parent, "pre");
    block.tabIndex = 0; // it may be wider than the page
    added(block, "code", "", lines.map((line) => line.text).join("\n"));
  }

  draw_quote(parent, { blocks }, growing) {
    this.#blocks(added(parent, "blockquote"), blocks, growing);
  }

  draw_rule(parent) {
    added(parent, "hr");
  }

  draw_list(parent, { ordered, items }, growing) {
    const list = added(parent, ordered ? "ol" : "ul");
    items.forEach(({ number, blocks }, index) => {
      const item = added(list, "li");
      if (ordered) item.value = number;
      const isLast = growing && index === items.length - 1;
      const [first, ...others] = blocks;
      if (first?.kind === "paragraph") this.#inlines(item, first.lines, isLast && others.length === 0);
      this.#blocks(item, first?.kind === "paragraph" ? others : blocks, isLast);
    });
  }

  draw_table(parent, { rows, aligned }, growing) {
    const table = added(added(parent, "div", "table"), "table");
    rows.forEach((cells, row) => {
      const line = added(table, "tr");
      cells.forEach((cell, column) => {
        const element = added(line, row === 0 ? "th" : "td", aligned[column] ?? "");
        this.#inlines(element, [cell], growing && row === rows.length - 1 && isLastFilled(cells, column), true);
      });
    });
  }

  #inlines(parent, lines, growing, cell = false) {
    const runs = this.#answer.quoted ? readQuoted(lines) : readInlines(lines, { growing, cell });
    let sentence; // the one the last piece belongs to
    let target = parent;
    for (const piece of runs.flatMap((run) => this.#pieces(run))) {
      if (piece.breaks) added(parent, "br");
      if (piece.sentence !== sentence || piece.breaks) {
        sentence = piece.sentence;
        target = sentence === undefined ? parent : this.#span(parent, sentence);
      }
      if (!piece.breaks) marked(target, piece.marks).append(this.#shown(piece));
    }
    parent.normalize();
  }

  /** A run cut where sentences begin and end. */
  #pieces(run) {
    if (run.breaks) return [run];
    const pieces = [];
    for (let { text, at } = run; ;) {
      const { begins, ends, index } = this.#sentenceFrom(at);
      const inside = begins <= at;
      const length = run.cites ? Infinity : (inside ? ends : begins) - at;
      pieces.push({ ...run, text: text?.slice(0, length), sentence: inside ? index : undefined });
      if (!(text?.length > length)) return pieces;
      text = text.slice(length);
      at += length;
    }
  }

  /** The sentence at this place of the text, or the next one behind it. */
  #sentenceFrom(at) {
    const { sentences } = this.#answer;
    while (this.#nextSentence < sentences.length && sentences[this.#nextSentence].ends <= at) this.#nextSentence += 1;
    const index = this.#nextSentence;
    return { begins: Infinity, ends: Infinity, ...sentences[index], index };
  }

  #span(parent, sentence) {
    const span = added(parent, "span", "sentence");
    span.dataset.testid = "sentence";
    this.#spans[sentence].push(span);
    return span;
  }

  #shown({ text, cites, sentence }) {
    if (cites === undefined) return text;
    this.#cited[sentence]?.add(cites);
    return this.#citation(cites, sentence) ?? ` [${cites}]`; // the model named a source it was not given
  }

  #found(n, sentence) {
    const mark = this.#citation(n, sentence);
    mark?.classList.add("found");
    return mark ?? "";
  }

  /** What stands behind a sentence: the sources that the service has found by itself, and a contradiction. */
  #finish({ citations, support }, index) {
    const last = this.#spans[index].at(-1);
    if (!last) return; // code, or a line that says nothing
    for (const n of citations) if (!this.#cited[index].has(n)) last.append(this.#found(n, index));
    if (support !== "contradicted") return;
    for (const span of this.#spans[index]) span.classList.add("contradicted");
    last.append(make("small", "contradicted-mark", t("turn.contradicted")));
  }
}

function isLastFilled(cells, column) {
  return cells.slice(column + 1).every((cell) => cell.text === "");
}

function added(parent, tag, className = "", text = "") {
  const element = make(tag, className, text);
  if (!className) element.removeAttribute("class");
  if (DIRECTED.has(tag)) element.dir = "auto";
  parent.append(element);
  return element;
}

/** Where a text with these marks goes: into the elements that stand last, as far as they are the same. */
function marked(target, marks = 0) {
  let place = target;
  for (const [mark, name] of ELEMENTS) {
    if (!(marks & mark)) continue;
    const last = place.lastChild;
    place = last?.nodeName === name ? last : added(place, name);
  }
  return place;
}

/** Makes the children of an element equal to those of another, changing no more than differs. */
function become(element, wanted) {
  const have = [...element.childNodes];
  const nodes = [...wanted.childNodes];
  nodes.forEach((node, index) => {
    const old = have[index];
    if (!old) element.append(node);
    else if (old.nodeName !== node.nodeName) old.replaceWith(node);
    else if (old.nodeType === Node.TEXT_NODE) become_text(old, node.data);
    else {
      for (const { name } of [...old.attributes]) if (!node.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of node.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      become(old, node);
    }
  });
  for (const old of have.slice(nodes.length)) old.remove();
}

function become_text(node, text) {
  if (text.startsWith(node.data)) node.appendData(text.slice(node.data.length));
  else node.data = text;
}
