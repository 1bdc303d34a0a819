// Text from documents and models is untrusted: it is cleaned here and only ever becomes text nodes.

const ESCAPE_SEQUENCES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\^_])/g;
// What stays of the invisible is what contracts/hidden_characters.py keeps: one joiner within a script that joins or between two emoji,
// and the variation selector of an emoji.
const JOINING = "[\\u0600-\\u061b\\u061d-\\u0dff\\u0f00-\\u109f\\u1780-\\u17b3\\u17b6-\\u180a\\u1810-\\u18af\\u{11000}-\\u{1147f}]";
const EMOJI = "[\\p{Extended_Pictographic}\\u{1f3fb}-\\u{1f3ff}]";
const KEPT = `(?<=${JOINING})[\\u200c\\u200d](?=${JOINING})|(?<=${EMOJI}[\\ufe0e\\ufe0f]?)\\u200d(?=${EMOJI})|(?<=${EMOJI})[\\ufe0e\\ufe0f]`;
// Controls, bidi and zero-width characters, tags and variation selectors; the visible Arabic signs of Cf stay.
const HIDDEN = new RegExp(
  `(?!${KEPT})(?![\\n\\t\\u0600-\\u0605\\u06dd\\u070f\\u08e2])` +
    "[\\p{Cc}\\p{Cf}\\ufe00-\\ufe0f\\u115f\\u1160\\u180b-\\u180f\\u3164\\uffa0\\u{e0000}-\\u{e0fff}]",
  "gu",
);
const UNFINISHED_CITATION = /(?<!\s)\s*\[[\d,\s]*$/;

/** The text without anything that hides from the eye. */
export function clean(text) {
  return String(text ?? "")
    .replace(ESCAPE_SEQUENCES, "")
    .replace(/\r\n?|[\u2028\u2029]/g, "\n")
    .replace(HIDDEN, "");
}

/** Make the cleaned text the only content of the element. */
export function write(element, text) {
  element.textContent = clean(text);
}

/** Show the element with this text, or hide it when there is none. */
export function writeOrHide(element, text) {
  write(element, text);
  element.hidden = !text;
}

/** Does the work; why it failed is said in that element. */
export async function attempt(problem, work) {
  try {
    await work();
    writeOrHide(problem, "");
  } catch (refusal) {
    writeOrHide(problem, refusal.message);
  }
}

/** A text that is still growing, without the half of a marker at its end. */
export function withoutUnfinishedCitation(text) {
  return text.replace(UNFINISHED_CITATION, "");
}

/** A text without those of the characters that stand last. */
export function withoutEnding(text, characters) {
  let end = text.length;
  while (end > 0 && characters.includes(text[end - 1])) end -= 1;
  return text.slice(0, end);
}

/**
 * Where a sentence stands in the text, from `from` on: as many printed characters as it has itself. Counting forgives the white
 * space that was trimmed.
 */
export function placeOf(sentence, text, from) {
  let begins = from;
  while (begins < text.length && /\s/.test(text[begins])) begins += 1;
  let missing = sentence.replace(/\s/g, "").length;
  let ends = begins;
  while (missing > 0 && ends < text.length) {
    if (!/\s/.test(text[ends])) missing -= 1;
    ends += 1;
  }
  return { begins, ends };
}

export const HEADINGS = " › ";

/** The path of headings, without the title in front of it. */
export function headingsOf(heading, title) {
  const path = (heading ?? "").split(HEADINGS).filter(Boolean);
  return path[0] === title ? path.slice(1) : path;
}
