// Which sentence of a passage an answer's sentence stands on: the one that shares most of its words and figures.

import { clean } from "./text.js";

const SHARED_MIN = 0.3; // of the answer's words; with less, no sentence is pointed out
const CHARACTERS_MAX = 400;
const sentences = new Intl.Segmenter(undefined, { granularity: "sentence" });
const wordsIn = new Intl.Segmenter(undefined, { granularity: "word" });

/** The text of that sentence, or of that row of a table; empty where none stands out. */
export function usedSentence(passage, claim) {
  const wanted = words(claim);
  let best = { score: 0, text: "" };
  for (const text of unitsOf(clean(passage))) {
    const own = words(text);
    const shared = [...wanted].filter((word) => own.has(word)).reduce((sum, word) => sum + weight(word), 0);
    const score = shared - own.size / 100; // of two that share as much, the shorter one
    if (score > best.score) best = { score, shared, text };
  }
  const total = [...wanted].reduce((sum, word) => sum + weight(word), 0);
  return best.shared >= SHARED_MIN * total ? best.text.slice(0, CHARACTERS_MAX) : "";
}

function* unitsOf(text) {
  for (const line of text.split("\n")) {
    if (line.includes(" | ")) yield line.trim();
    else for (const { segment } of sentences.segment(line)) if (segment.trim()) yield segment.trim();
  }
}

function words(text) {
  const found = [...wordsIn.segment(clean(text).toLowerCase())].filter(({ isWordLike }) => isWordLike).map(({ segment }) => segment);
  return new Set(found.filter((word) => word.length > 2 || /\d/.test(word)));
}

function weight(word) {
  return /\d/.test(word) ? 2 : 1; // figures tell more than words
}
