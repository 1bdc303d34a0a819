// Views, each fetched when it is first opened: its module, its markup and its style sheet.

import { addressOf } from "./api.js";
import { addTexts, localise } from "./texts.js";

/**
 * By the first word of the address; the markup of each is `views/<name>.html`, with an element `<name>-view`. A module exports
 * its `View`, made once that markup is on the page: `start()` is called then, `enter(...rest)` with the rest of the address
 * whenever it is shown, `leave()` when another takes its place. Either may be missing. Their texts are in
 * `texts/views_<language>.js`; those of what opens over a view are there from the first visit on.
 */
const MODULES = {
  documents: () => import("./documents.js"),
  "dead-letters": () => import("./dead_letters.js"),
  operations: () => import("./operations.js"),
  usage: () => import("./usage.js"),
  gaps: () => import("./gaps.js"),
  feedback: () => import("./ratings.js"),
  keys: () => import("./keys.js"),
  audit: () => import("./audit.js"),
  sessions: () => import("./sessions.js"),
};
const OVER_THE_VIEW = {
  history: () => import("./history.js"),
  reader: () => import("./reader.js"),
};
const opened = new Map(); // name → the promise of its View

export function isView(name) {
  return name in MODULES;
}

/** The view of this name, or what opens over one. Rejects when a part of it cannot be fetched; the next try begins anew. */
export function openView(name) {
  if (!opened.has(name)) {
    opened.set(name, load(name));
    opened.get(name).catch(() => opened.delete(name));
  }
  return opened.get(name);
}

async function load(name) {
  const module = MODULES[name] ?? OVER_THE_VIEW[name];
  const [{ View }, markup] = await Promise.all([module(), fetchMarkup(name), isView(name) && addTexts()]);
  await settle(markup);
  const view = new View();
  view.start?.();
  return view;
}

/** The page's own file, and nothing that somebody wrote into a document. */
async function fetchMarkup(name) {
  const response = await fetch(addressOf(`/web/views/${name}.html`));
  if (!response.ok) throw new Error(`views/${name}.html: ${response.status}`);
  return new DOMParser().parseFromString(await response.text(), "text/html");
}

/** Puts the markup where it belongs, in the reader's language, once its style sheet is there. */
async function settle(markup) {
  const sheets = [...markup.querySelectorAll("link")].map(addSheet);
  localise(markup);
  document.getElementById("main").append(...markup.querySelectorAll("body > section"));
  document.body.append(...markup.querySelectorAll("body > :is(dialog, template)"));
  await Promise.all(sheets);
}

function addSheet(link) {
  const address = link.getAttribute("href");
  if (document.querySelector(`link[href="${address}"]`)) return null;
  const sheet = document.createElement("link");
  sheet.rel = "stylesheet";
  sheet.href = address;
  document.head.append(sheet);
  return new Promise((resolve, reject) => {
    sheet.addEventListener("load", resolve);
    sheet.addEventListener("error", () => { sheet.remove(); reject(new Error(address)); });
  });
}
