// The page's front door: which view is shown, and what the address says.

import { AskView } from "./ask.js";
import { startKey } from "./key.js";
import { startPreferences } from "./preferences.js";
import { startSignIn } from "./sign_in.js";
import { localise, t } from "./texts.js";
import { writeOrHide } from "./text.js";
import { isView, openView } from "./views.js";
import { startDropping } from "./dropping.js";

const askView = new AskView();
const ASKING = ["conversation", "answer"]; // addresses of the view in which one asks
let shown = { name: "ask", view: askView, hash: "" };
let routing = 0;

async function route() {
  const own = ++routing;
  const [kind, ...rest] = location.hash.slice(1).split("/").map(decoded);
  try {
    if (kind === "document" && rest[0]) return await openDocument(own, rest);
    if (isView(kind)) await showView(own, kind, rest);
    else await showView(own, "ask", ASKING.includes(kind) ? [kind, ...rest] : []);
    if (own === routing) (await reader?.catch(() => null))?.close();
  } catch {
    if (own === routing) sayProblem(t("view.unreachable"));
  }
}

let reader = null; // the promise of it, once something was opened

async function openDocument(own, [id, ordinal, used]) {
  reader = openView("reader");
  const opened = await reader;
  opened.onLeave = leaveReader;
  if (own === routing) await opened.open(id, ordinal ? Number(ordinal) : undefined, used);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not an address of ours; it will simply not be found
  }
}

async function showView(own, name, rest) {
  const view = name === "ask" ? askView : await openView(name);
  if (own !== routing) return;
  const changed = shown.name !== name;
  if (changed) shown.view.leave?.();
  shown = { name, view, hash: location.hash };
  for (const each of document.querySelectorAll("#main > .view")) each.hidden = each.id !== `${name}-view`;
  for (const link of document.querySelectorAll(".masthead nav a")) {
    link.setAttribute("aria-current", link.id === `nav-${name}` ? "page" : "false");
  }
  sayProblem("");
  const title = document.getElementById(`nav-${name}`)?.textContent;
  document.title = title ? `${title} · Refdesk` : "Refdesk";
  view.enter?.(...rest);
  if (changed) scrollTo({ top: 0, behavior: "instant" });
}

function sayProblem(text) {
  writeOrHide(document.getElementById("view-problem"), text);
}

function leaveReader() {
  history.replaceState(null, "", shown.hash || "#ask");
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

async function addFiles(files) {
  if (files.length === 0) return;
  location.hash = "#documents";
  (await openView("documents")).add(files);
}

async function toggleHistory() {
  const drawer = await openView("history");
  drawer.onRemoved = (id) => askView.left(id);
  drawer.toggle();
}

/** `?answer=` is an answer's address for others, `?q=` a question that somebody asks from elsewhere. */
function followQuery() {
  const query = new URLSearchParams(location.search);
  const answerId = query.get("answer");
  const question = query.get("q")?.trim();
  if (!answerId && !question) return null;
  history.replaceState(null, "", location.pathname + (answerId ? `#answer/${encodeURIComponent(answerId)}` : "#ask"));
  return answerId ? null : question;
}

function skipToMain(event) {
  event.preventDefault();
  event.stopPropagation();
  if (shown.name === "ask") askView.focus();
  else document.getElementById("main").focus();
}

localise(document);
startKey();
startPreferences();
startSignIn(() => askView.unsent);
askView.start();
startDropping((files) => addFiles(files).catch(() => sayProblem(t("view.unreachable"))));
document.getElementById("skip-link").addEventListener("click", skipToMain);
document.addEventListener("click", follow);
addEventListener("hashchange", route);
document.getElementById("preferences").addEventListener("click", ({ target, currentTarget }) => target.closest("a") && currentTarget.hidePopover());
import("./answered_gaps.js").then(({ showAnsweredGaps }) => showAnsweredGaps(), () => {});
document.getElementById("nav-ask").setAttribute("aria-current", "page");
document.getElementById("history-button").addEventListener("click", () => toggleHistory().catch(() => sayProblem(t("view.unreachable"))));
addEventListener("refdesk:address", (event) => { shown.hash = event.detail; });
const asked = followQuery();
route();
if (location.hash.startsWith("#document/")) askView.restore();
if (asked) askView.ask(asked);
if (matchMedia("(hover: hover)").matches && !location.hash) askView.focus(); // no keyboard popping up on a phone
document.documentElement.dataset.ready = "true";
