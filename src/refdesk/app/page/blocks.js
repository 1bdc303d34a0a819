// The blocks of a Markdown text: headings, lists, tables, code, quotes, paragraphs. Text in, plain objects out.
//
// Any text has blocks, also one that breaks off: whatever is not closed reaches to its end. A text that still grows (`growing`)
// lacks what only its next characters decide: a last line that may become a marker. What a line says is never lost.
//
// It is CommonMark with tables, but for what models mean otherwise: a line break is one, lists may be nested by two spaces, a
// line below a list that is not indented ends it, indented text is no code, and text is never underlined into a heading.

import { withoutEnding, withoutUnfinishedCitation } from "./text.js";

const UNDECIDED = /^[\s\d>*+•_=|:~`#$\\.)-]*$/; // it says nothing yet, and may become a marker of any kind
const FENCE = /^[ \t]*(?:(`{3,})[^`]*|(~{3,}).*)$/;
const HEADING = /^[ \t]*(#{1,6})(?:[ \t]+|$)/;
const RULE = /^[ \t]*(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|={3,}[ \t]*)$/;
const QUOTE = /^[ \t]*> ?/;
const ITEM = /^[ \t]*([-*+•]|(\d{1,9})[.)])(?:[ \t]+|$)/;
const SEPARATOR = /^[ \t]*[|:-][|: \t-]*$/;
const MATHS = /^[ \t]*(\$\$|\\\[)/;
const MATHS_ENDS = { "$$": "$$", "\\[": "\\]" };
const TAB_COLUMNS = 4;
const DEPTH_MAX = 10; // lists and quotes within one another; below that a marker is text
const NESTED_COLUMNS = 2; // an item's further lines stand at least so far behind its marker

/**
 * A block is `{kind, …}`: "paragraph" and "heading" (`lines`, `level`), "code" (`lines`), "quote" (`blocks`), "list" (`ordered`,
 * `items` of `{number, blocks}`), "table" (`rows` of cells, `aligned`), "rule". A line or cell is `{text, at}`: where it stands
 * in the whole text.
 */
export function readBlocks(text, { growing = false } = {}) {
  const lines = linesOf(growing ? withoutUnfinishedCitation(text) : text);
  if (growing && UNDECIDED.test(lines.at(-1).text)) lines.pop();
  return blocksOf(lines, { growing, depth: 0 });
}

/** The blocks of a text that only quotes: what looks like a marker of Markdown is the document's own. */
export function readQuotes(text) {
  const blocks = [];
  for (const line of linesOf(text).filter(isFilled)) {
    const item = ITEM.exec(line.text);
    const last = blocks.at(-1);
    if (!item) blocks.push({ kind: "paragraph", lines: [line] });
    else if (last?.kind === "list" && last.ordered === isOrdered(item)) last.items.push(quotedItem(line, item));
    else blocks.push({ kind: "list", ordered: isOrdered(item), items: [quotedItem(line, item)] });
  }
  return blocks;
}

function quotedItem(line, item) {
  return { number: Number(item[2]), blocks: [{ kind: "paragraph", lines: [cut(line, item[0].length)] }] };
}

function linesOf(text) {
  let at = 0;
  return text.split("\n").map((line) => {
    const begins = at;
    at += line.length + 1;
    return { text: line, at: begins };
  });
}

/** `within` is `{growing, depth}`: whether the last of these lines still grows, and how many blocks are around them. */
function blocksOf(lines, within) {
  const blocks = [];
  let next = 0;
  while (next < lines.length) {
    if (!isFilled(lines[next])) next += 1;
    else next = READERS[kindAt(lines, next, within)](lines, next, blocks, within);
  }
  return blocks;
}

function kindAt(lines, at, { growing, depth }) {
  const { text } = lines[at];
  if (FENCE.test(text)) return "code";
  if (HEADING.test(text)) return "heading";
  if (RULE.test(text)) return "rule";
  if (depth < DEPTH_MAX && QUOTE.test(text)) return "quote";
  if (depth < DEPTH_MAX && ITEM.test(text)) return "list";
  return beginsTable(lines, at, growing) ? "table" : "paragraph";
}

// Each reads the block that begins at a line, adds it, and says where the next one begins.
const READERS = { paragraph: readParagraph, heading: readHeading, code: readCode, rule: readRule, quote: readQuote, list: readList, table: readTable };

function readParagraph(lines, from, blocks, within) {
  let end = from;
  let maths = null; // what ends a formula of several lines: nothing in it begins another block
  do {
    const { text } = lines[end];
    const opened = maths === null && MATHS.exec(text);
    if (opened) maths = MATHS_ENDS[opened[1]];
    if (maths !== null && text.indexOf(maths, opened ? opened[0].length : 0) >= 0) maths = null;
    end += 1;
  } while (end < lines.length && isFilled(lines[end]) && (maths !== null || kindAt(lines, end, within) === "paragraph"));
  blocks.push({ kind: "paragraph", lines: lines.slice(from, end).map(trimmed) });
  return end;
}

function readHeading(lines, at, blocks) {
  const [marker, signs] = HEADING.exec(lines[at].text);
  const line = trimmed(cut(lines[at], marker.length));
  const open = withoutEnding(line.text, "#");
  if (open === "" || /\s$/.test(open)) line.text = open.trimEnd(); // what was cut off closes the heading
  blocks.push({ kind: "heading", level: signs.length, lines: [line] });
  return at + 1;
}

function readRule(lines, at, blocks) {
  blocks.push({ kind: "rule" });
  return at + 1;
}

function readCode(lines, from, blocks) {
  const opened = FENCE.exec(lines[from].text);
  const fence = opened[1] ?? opened[2];
  const indented = indent(lines[from]);
  let end = from + 1;
  while (end < lines.length && !closes(lines[end].text, fence)) end += 1;
  const inside = lines.slice(from + 1, end).map((line) => withoutIndent(line, indented));
  blocks.push({ kind: "code", lines: inside });
  return end + 1;
}

function closes(text, fence) {
  const bare = text.trim();
  return bare.length >= fence.length && bare === fence[0].repeat(bare.length);
}

function readQuote(lines, from, blocks, within) {
  let end = from;
  while (end < lines.length && QUOTE.test(lines[end].text)) end += 1;
  const inside = lines.slice(from, end).map((line) => cut(line, QUOTE.exec(line.text)[0].length));
  blocks.push({ kind: "quote", blocks: blocksOf(inside, inner(within, end === lines.length)) });
  return end;
}

function inner({ growing, depth }, isLast) {
  return { growing: growing && isLast, depth: depth + 1 };
}

function readList(lines, from, blocks, within) {
  const begins = indent(lines[from]);
  const ordered = isOrdered(ITEM.exec(lines[from].text));
  const items = [];
  let next = from;
  while (next < lines.length && isItem(lines[next], begins, ordered)) {
    const end = itemEnd(lines, next, begins);
    items.push(readItem(lines.slice(next, end), inner(within, end === lines.length)));
    next = end;
    while (next < lines.length && !isFilled(lines[next])) next += 1;
  }
  blocks.push({ kind: "list", ordered, items: counted(items) });
  return next;
}

function isItem(line, begins, ordered) {
  const item = ITEM.exec(line.text);
  return item !== null && !RULE.test(line.text) && isOrdered(item) === ordered && indent(line) >= begins;
}

function isOrdered(item) {
  return item[2] !== undefined;
}

function itemEnd(lines, from, begins) {
  let end = from + 1;
  for (let next = end; next < lines.length; next += 1) {
    if (!isFilled(lines[next])) continue;
    if (indent(lines[next]) < begins + NESTED_COLUMNS) break;
    end = next + 1;
  }
  return end;
}

function readItem([first, ...rest], within) {
  const [marker, , number] = ITEM.exec(first.text);
  const nearest = Math.min(columns(marker), ...rest.filter(isFilled).map(indent));
  const lines = [cut(first, marker.length), ...rest.map((line) => withoutIndent(line, nearest))];
  return { number: Number(number), blocks: blocksOf(lines, within) };
}

/** Items are numbered as written; where they do not rise, they are counted on. */
function counted(items) {
  let before = -1;
  for (const item of items) {
    if (item.number <= before) item.number = before + 1;
    before = item.number;
  }
  return items;
}

function beginsTable(lines, at, growing) {
  const { text } = lines[at];
  if (!text.includes("|")) return false;
  const separated = at + 1 < lines.length && isSeparator(lines[at + 1].text);
  const bare = text.trim();
  const barred = bare.startsWith("|") && bare.length > 1;
  return separated || (barred && (bare.endsWith("|") || (growing && at + 1 === lines.length)));
}

function isSeparator(text) {
  return SEPARATOR.test(text) && text.includes("-") && text.includes("|");
}

function readTable(lines, from, blocks, within) {
  const rows = [cells(lines[from])];
  let end = from + 1;
  let aligned = [];
  if (end < lines.length && isSeparator(lines[end].text)) {
    aligned = cells(lines[end]).map(alignment);
    end += 1;
  }
  for (; end < lines.length && lines[end].text.includes("|"); end += 1) {
    const kind = kindAt(lines, end, within);
    if (kind !== "paragraph" && kind !== "table") break;
    rows.push(cells(lines[end]));
  }
  blocks.push({ kind: "table", rows: rows.map((row) => padded(row, rows[0].length)), aligned });
  return end;
}

function cells(line) {
  const { text, at } = trimmed(line);
  const found = [];
  let begins = text.startsWith("|") ? 1 : 0;
  for (let next = begins; next < text.length; next += 1) {
    if (text[next] === "\\") next += 1;
    else if (text[next] === "|") {
      found.push(trimmed({ text: text.slice(begins, next), at: at + begins }));
      begins = next + 1;
    }
  }
  if (begins < text.length) found.push(trimmed({ text: text.slice(begins), at: at + begins }));
  return found;
}

function padded(row, count) {
  const missing = Array.from({ length: Math.max(0, count - row.length) }, () => ({ text: "", at: row.at(-1)?.at ?? 0 }));
  return [...row, ...missing];
}

function alignment({ text }) {
  if (!text.endsWith(":")) return "";
  return text.startsWith(":") ? "center" : "right";
}

function isFilled({ text }) {
  return text.trim() !== "";
}

function cut({ text, at }, count) {
  return { text: text.slice(count), at: at + count };
}

function trimmed(line) {
  const inner = cut(line, line.text.length - line.text.trimStart().length);
  return { ...inner, text: inner.text.trimEnd() };
}

function indent({ text }) {
  return columns(text.slice(0, text.length - text.trimStart().length));
}

function columns(text) {
  let count = 0;
  for (const one of text) count += one === "\t" ? TAB_COLUMNS - (count % TAB_COLUMNS) : 1;
  return count;
}

function withoutIndent(line, most) {
  let count = 0;
  while (count < line.text.length && /[ \t]/.test(line.text[count]) && columns(line.text.slice(0, count + 1)) <= most) count += 1;
  return cut(line, count);
}
