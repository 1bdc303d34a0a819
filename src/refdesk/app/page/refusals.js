// Why the service refuses, in the reader's language. English is what the service says itself; of another language there is a
// catalogue by the type of the refusal, fetched with the first one.

import { bytes, seconds } from "./format.js";
import { language } from "./texts.js";

const UNKNOWN = / \([^()]*\{(\w+)\}[^()]*\)/g; // an aside about a value that may not be there
let texts = language === "en" ? {} : null;

/** The words for a problem; the service's own where the page has none for its type. `aside` finds out what else some may know. */
export async function wordsOf(problem, { aside } = {}) {
  texts ??= await fetchTexts();
  const said = problem.detail || problem.title || "";
  const text = texts?.[problem.type];
  if (!text) return said;
  return filledIn(text, { ...valuesOf(problem), said, aside: text.includes("{aside}") && (await aside?.()) });
}

/** Null where they cannot be had: with the next refusal it is tried again. */
async function fetchTexts() {
  return (await import(`./texts/refusals_${language}.js`).catch(() => null))?.default ?? null;
}

function valuesOf({ limit, retry_after: wait }) {
  return {
    limit: limit?.toLocaleString(language),
    size: limit && bytes(limit),
    wait: wait && seconds(wait),
  };
}

function filledIn(text, values) {
  return text
    .replace(UNKNOWN, (aside, name) => (values[name] ? aside : ""))
    .replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
