// The page's words in the reader's language: what they chose, else what their browser prefers, else English.

export const LANGUAGES = { en: "English", de: "Deutsch" };
const STORED_AS = "refdesk.language";
const ATTRIBUTES = ["placeholder", "aria-label", "title"];

export const language = chosenLanguage() ?? preferredLanguage();
const texts = await textsOf(language); // those of a first visit, until there are more
const plurals = new Intl.PluralRules(language);

/** What the reader has chosen, or null. */
export function chosenLanguage() {
  const chosen = localStorage.getItem(STORED_AS);
  return chosen in LANGUAGES ? chosen : null;
}

/** From the next load on; null is what the browser prefers. */
export function chooseLanguage(name) {
  if (name === null) localStorage.removeItem(STORED_AS);
  else localStorage.setItem(STORED_AS, name);
}

function preferredLanguage() {
  const wanted = (navigator.languages ?? [navigator.language]).map((name) => name.toLowerCase().split("-")[0]);
  return wanted.find((name) => name in LANGUAGES) ?? "en";
}

/**
 * The text of this name, with `{values}` put in; numbers are written as the language does. A text of several forms takes the
 * one for the value `n`.
 */
export function t(name, values = {}) {
  const found = texts[name];
  if (found === undefined) throw new Error(`There is no text named ${name}.`);
  const text = typeof found === "string" ? found : found[plurals.select(values.n)] ?? found.other;
  return text.replace(/\{(\w+)\}/g, (_, key) => shown(values[key]));
}

/** Add the texts of the views that a first visit does not show. */
export async function addTexts() {
  Object.assign(texts, await textsOf(`views_${language}`));
}

async function textsOf(name) {
  return { ...(await import(`./texts/${name}.js`)).default };
}

/** Whether there is a text of this name. */
export function hasText(name) {
  return name in texts;
}

function shown(value) {
  return typeof value === "number" ? value.toLocaleString(language) : String(value ?? "");
}

/** Fill in the elements that name their text: `data-text`, and `data-text-…` for an attribute. */
export function localise(root) {
  if (root === document) document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const attribute of ATTRIBUTES) {
    for (const element of root.querySelectorAll(`[data-text-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-text-${attribute}`)));
    }
  }
  for (const template of root.querySelectorAll("template")) localise(template.content);
}
