// What stands in a line of Markdown: bold, italic, code, citations, formulas; links and images become text.
//
// Lines in, runs out: `{text, at, marks}`, where `at` is where the run's first character stands in the whole text; or a
// citation `{cites, at}`, or a line break `{breaks, at}`. Emphasis pairs its delimiters as CommonMark says (6.2, appendix A).
// In a text that still grows, what is open counts as closed at its end, and a last character that may begin a mark waits.

import { withoutEnding } from "./text.js";

export const STRONG = 1;
export const EMPHASIS = 2;
export const DELETED = 4;
export const CODE = 8;
const MARKS = [STRONG, EMPHASIS, DELETED];

const UNDECIDED = "*_~`[!\\<$"; // as the last characters of a text that grows
const BREAK_BEGINS = /<b(?:r[ \t]?\/?)?$/i;
const PLAIN = /[^\\`*_~[\]!<$\n]+/y;
const QUOTED = /[^]([^[\n<]*)/y;
const TICKS = /`+/y;
const CITATION = /\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\](?!\()/y;
const LINK_END = /\]\([ \t]?<?((?:[^()\s<>]|\([^()\s<>]{0,200}\)){1,2000})>?(?:[ \t](?:"[^"\n]{0,200}"|'[^'\n]{0,200}'))?[ \t]?\)/y;
const LINK_BEGINS = /\]\(([^()\s]{0,2000})(?:[ \t](?:["'][^"'\n]{0,200}["']?)?)?$/y;
const BREAK = /<br[ \t]?\/?>/iy;
const DELIMITER = /\*+|_+|~+/y;
const ESCAPED = /\\[!-/:-@[-`{-~]/y;
const SPACE = /\s/u;
const SIGN = /[\p{P}\p{S}]/u;
const FORMULAS = { "$$": "$$", "\\(": "\\)", "\\[": "\\]" };

/** In a `cell` of a table a bar is escaped, even in code. */
export function readInlines(lines, { growing = false, cell = false } = {}) {
  return new Reader(lines, { growing, cell }).read();
}

/** The runs of text that is not Markdown: citations and line breaks are all there is. */
export function readQuoted(lines) {
  return new Reader(lines, {}).readQuoted();
}

class Reader {
  #text;
  #places = []; // where each character of the text stands in the whole
  #growing;
  #cell;
  #next = 0;
  #runs = [];
  #brackets = []; // runs that may open a link
  #delimiters = [];
  #none = new Set(); // ends that do not come any more: nobody looks for them again
  #ticks = null;

  constructor(lines, { growing = false, cell = false }) {
    const text = lines.map((line) => line.text).join("\n");
    this.#text = growing ? withoutEnding(text.replace(BREAK_BEGINS, ""), UNDECIDED) : text;
    this.#growing = growing;
    this.#cell = cell;
    for (const { text: line, at } of lines) for (let i = 0; i <= line.length; i += 1) this.#places.push(at + i);
  }

  read() {
    while (this.#next < this.#text.length) {
      const plain = this.#match(PLAIN);
      if (plain) this.#take(plain[0].length);
      else this.#readSign(this.#text[this.#next]);
    }
    return markedRuns(this.#runs, pairs(this.#delimiters, this.#growing));
  }

  readQuoted() {
    while (this.#next < this.#text.length) {
      if (this.#readCitation() || this.#readBreak()) continue;
      this.#take(1 + this.#match(QUOTED)[1].length);
    }
    return markedRuns(this.#runs, []);
  }

  #readSign(sign) {
    if (sign === "\n" || sign === "<") return this.#readBreak() || this.#take(1);
    if (sign === "`") return this.#readCode();
    if (sign === "\\") return this.#readFormula() || this.#readEscape();
    if (sign === "$") return this.#readFormula() || this.#readMoney();
    if (sign === "[" || sign === "!") return this.#readCitation() || this.#openLink();
    if (sign === "]") return this.#closeLink() || this.#take(1);
    return this.#readDelimiter();
  }

  #match(pattern) {
    pattern.lastIndex = this.#next;
    return pattern.exec(this.#text);
  }

  /** The next characters, as they are. */
  #take(count, marks = 0) {
    this.#add(this.#next, this.#next + count, marks);
    this.#next += count;
    return true;
  }

  #add(from, to, marks = 0) {
    const run = { text: this.#text.slice(from, to), at: this.#places[from], marks };
    this.#runs.push(run);
    return run;
  }

  #readBreak() {
    const tag = this.#text[this.#next] === "\n" ? ["\n"] : this.#match(BREAK);
    if (!tag) return false;
    this.#trimLast();
    this.#runs.push({ breaks: true, at: this.#places[this.#next] });
    this.#next += tag[0].length;
    return true;
  }

  #trimLast() {
    const last = this.#runs.at(-1);
    if (last?.text && !(last.marks & CODE)) last.text = last.text.trimEnd();
  }

  #readCitation() {
    const found = this.#match(CITATION);
    if (!found) return false;
    this.#trimLast();
    for (const n of found[1].split(",").map(Number)) this.#runs.push({ cites: n, at: this.#places[this.#next] });
    this.#next += found[0].length;
    return true;
  }

  #readCode() {
    const [ticks] = this.#match(TICKS);
    const from = this.#next + ticks.length;
    const closed = this.#ticksBehind(ticks.length, from);
    if (closed === undefined && !this.#growing) return this.#take(ticks.length);
    const end = closed ?? this.#text.length;
    const inside = this.#text.slice(from, end);
    const padded = /^ /.test(inside) && / $/.test(inside) && inside.trim() !== "" ? 1 : 0;
    this.#addCode(from + padded, end - padded);
    this.#next = closed === undefined ? end : end + ticks.length;
    return true;
  }

  #addCode(from, to) {
    let begins = from;
    for (let at = from; this.#cell && at < to; at += 1) {
      if (!this.#text.startsWith("\\|", at)) continue;
      this.#add(begins, at, CODE);
      begins = at + 1;
    }
    this.#add(begins, to, CODE);
  }

  /** Where the next run of just so many ticks begins. */
  #ticksBehind(count, from) {
    if (this.#ticks === null) {
      this.#ticks = new Map();
      for (const { 0: { length }, index } of this.#text.matchAll(/`+/g)) {
        if (!this.#ticks.has(length)) this.#ticks.set(length, []);
        this.#ticks.get(length).push(index);
      }
      for (const places of this.#ticks.values()) places.reverse();
    }
    const places = this.#ticks.get(count) ?? [];
    while (places.length > 0 && places.at(-1) < from) places.pop();
    return places.at(-1);
  }

  #readFormula() {
    const opener = this.#text.slice(this.#next, this.#next + 2);
    const closer = FORMULAS[opener];
    if (!closer || this.#none.has(closer)) return false;
    const end = this.#text.indexOf(closer, this.#next + 2);
    if (end < 0) this.#none.add(closer);
    if (end < 0 && !this.#growing) return false;
    return this.#takeLines(end < 0 ? this.#text.length : end + 2);
  }

  /** A formula between single signs, or an amount of money. */
  #readMoney() {
    const end = this.#text.indexOf("$", this.#next + 1);
    const closed = end > this.#next + 1 && !SPACE.test(this.#text[this.#next + 1]) && !/[\s\\]/.test(this.#text[end - 1]);
    if (closed && !/\d/.test(this.#text[end + 1] ?? "")) return this.#takeLines(end + 1);
    return this.#take(1);
  }

  #takeLines(end) {
    while (this.#next < end) {
      const line = this.#text.indexOf("\n", this.#next);
      if (line === this.#next) this.#readBreak();
      else this.#take((line < 0 ? end : Math.min(line, end)) - this.#next);
    }
    return true;
  }

  #readEscape() {
    if (this.#text[this.#next + 1] === "\n") {
      this.#next += 1; // a line break, marked as one
      return true;
    }
    const escaped = this.#match(ESCAPED) !== null;
    this.#next += escaped ? 1 : 0;
    return this.#take(1);
  }

  #openLink() {
    const image = this.#text.startsWith("![", this.#next);
    const opens = image || this.#text[this.#next] === "[";
    this.#take(image ? 2 : 1);
    if (opens) this.#brackets.push(this.#runs.at(-1));
    return true;
  }

  /** `[text](address)` is shown as `text (address)`. */
  #closeLink() {
    const opener = this.#brackets.pop();
    const found = opener && (this.#match(LINK_END) ?? (this.#growing ? this.#match(LINK_BEGINS) : null));
    if (!found) return false;
    opener.text = "";
    const from = this.#next + found[0].indexOf(found[1], 2);
    this.#runs.push({ text: " (", at: this.#places[this.#next], marks: 0 });
    this.#add(from, from + found[1].length);
    if (found[0].endsWith(")")) this.#runs.push({ text: ")", at: this.#places[this.#next + found[0].length - 1], marks: 0 });
    this.#next += found[0].length;
    return true;
  }

  #readDelimiter() {
    const [signs] = this.#match(DELIMITER);
    const before = this.#text[this.#next - 1] ?? " ";
    const after = this.#text[this.#next + signs.length] ?? " ";
    const left = !SPACE.test(after) && (!SIGN.test(after) || SPACE.test(before) || SIGN.test(before));
    const right = !SPACE.test(before) && (!SIGN.test(before) || SPACE.test(after) || SIGN.test(after));
    const within = signs[0] === "_";
    this.#take(signs.length);
    if (signs[0] === "~" && signs.length !== 2) return true;
    this.#delimiters.push({
      sign: signs[0],
      count: signs.length,
      length: signs.length,
      run: this.#runs.at(-1),
      index: this.#runs.length - 1,
      opens: left && (!within || !right || SIGN.test(before)),
      closes: right && (!within || !left || SIGN.test(after)),
    });
    return true;
  }
}

/** Which delimiters belong together: `{from, to, mark}` with the indices of their runs. What pairs leaves its run. */
function pairs(delimiters, growing) {
  const found = [];
  const open = [];
  const bottoms = new Map(); // below it there is no opener for such a closer
  delimiters.forEach((closer, number) => {
    closer.number = number;
    while (closer.closes && closer.count > 0) {
      const key = `${closer.sign}${closer.opens}${closer.length % 3}`;
      const at = openerFor(closer, open, bottoms.get(key) ?? 0);
      if (at < 0) {
        bottoms.set(key, number);
        break;
      }
      found.push(paired(open[at], closer));
      open.length = open[at].count > 0 ? at + 1 : at;
    }
    if (closer.opens && closer.count > 0) open.push(closer);
  });
  if (growing) for (const opener of open) while (opener.count > 0) found.push(paired(opener, { count: opener.count, index: Infinity }));
  return found;
}

function openerFor(closer, open, bottom) {
  for (let at = open.length - 1; at >= 0 && open[at].number >= bottom; at -= 1) {
    const { sign, closes, length } = open[at];
    const odd = (closes || closer.opens) && (length + closer.length) % 3 === 0 && !(length % 3 === 0 && closer.length % 3 === 0);
    if (sign === closer.sign && !odd) return at;
  }
  return -1;
}

function paired(opener, closer) {
  const both = Math.min(opener.count, closer.count) >= 2;
  for (const one of [opener, closer]) {
    one.count -= both ? 2 : 1;
    if (one.run) one.run.text = one.run.text.slice(both ? 2 : 1);
  }
  const mark = opener.sign === "~" ? DELETED : both ? STRONG : EMPHASIS;
  return { from: opener.index, to: closer.index, mark };
}

/** The runs with the marks of the pairs around them; runs that have nothing left to say are gone. */
function markedRuns(runs, found) {
  const begins = runs.map(() => []);
  const ends = runs.map(() => []);
  for (const { from, to, mark } of found) {
    begins[from].push(mark);
    if (to !== Infinity) ends[to].push(mark);
  }
  const depths = { [STRONG]: 0, [EMPHASIS]: 0, [DELETED]: 0 };
  runs.forEach((run, index) => {
    for (const mark of ends[index]) depths[mark] -= 1;
    run.marks |= MARKS.filter((mark) => depths[mark] > 0).reduce((all, mark) => all | mark, 0);
    for (const mark of begins[index]) depths[mark] += 1;
  });
  return runs.filter((run) => run.text !== "");
}
