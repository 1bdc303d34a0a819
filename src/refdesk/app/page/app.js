// The page's front door: which view is shown, and what the address says.

import { AskView } from "./ask.js";
import { DeadLettersView } from "./dead_letters.js";
import { DocumentsView } from "./documents.js";
import { startKey } from "./key.js";
import { Reader } from "./reader.js";
import { startDropping, Uploads } from "./uploads.js";

const askView = new AskView();
const documentsView = new DocumentsView();
const deadLettersView = new DeadLettersView();
const VIEWS = ["ask", "documents", "dead-letters"];
const reader = new Reader();
const uploads = new Uploads((added) => documentsView.show(added));
let viewName = "ask";

function route() {
  const [kind, id, ordinal] = location.hash.slice(1).split("/").map(decoded);
  if (kind === "document" && id) return reader.open(id, ordinal ? Number(ordinal) : undefined);
  showView(VIEWS.includes(kind) ? kind : "ask");
  reader.close();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not an address of ours; it will simply not be found
  }
}

function showView(name) {
  const changed = viewName !== name;
  viewName = name;
  for (const each of VIEWS) {
    document.getElementById(`${each}-view`).hidden = each !== name;
    document.getElementById(`nav-${each}`)?.setAttribute("aria-current", each === name ? "page" : "false");
  }
  if (name === "dead-letters") deadLettersView.enter();
  if (name === "documents") documentsView.enter();
  else documentsView.leave();
  if (changed) scrollTo({ top: 0, behavior: "instant" });
}

function leaveReader() {
  history.replaceState(null, "", `#${viewName}`);
  route();
}

/** Follow a link or a citation to an address, also when the page is there already. */
function follow(event) {
  const link = event.target.closest('[data-opens], a[href^="#"]');
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const hash = link.dataset.opens ?? link.getAttribute("href");
  event.preventDefault();
  if (location.hash === hash) route();
  else location.hash = hash;
}

function addFiles(files) {
  if (files.length === 0) return;
  location.hash = "#documents";
  uploads.add(files);
}

function skipToMain(event) {
  event.preventDefault();
  event.stopPropagation();
  if (viewName === "ask") askView.focus();
  else document.getElementById("main").focus();
}

startKey();
askView.start();
documentsView.start();
deadLettersView.start();
reader.start(leaveReader);
startDropping(addFiles);
document.getElementById("skip-link").addEventListener("click", skipToMain);
document.getElementById("file-input").addEventListener("change", (event) => {
  addFiles([...event.target.files]);
  event.target.value = ""; // the same file may be chosen again
});
document.addEventListener("click", follow);
addEventListener("hashchange", route);
showView("ask");
route();
if (matchMedia("(hover: hover)").matches && viewName === "ask" && !location.hash) askView.focus(); // no keyboard popping up on a phone
