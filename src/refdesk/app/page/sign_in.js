// Signing in: who is signed in, the way to the identity provider and back, and what must not be lost on it.

import { t } from "./texts.js";

const DRAFT = "refdesk.draft";
const NARROW = matchMedia("(max-width: 34rem)");
const dialogButton = document.getElementById("key-sign-in");
const signIn = document.getElementById("sign-in");
const signOut = document.getElementById("sign-out");
const signedInAs = document.getElementById("signed-in-as");
let offer = null; // where to sign in, if one can
let me = null; // who is signed in
let known = Promise.resolve();
let unsent = () => "";

/** Find out who is signed in, and wire the buttons. `question` gives what was typed and not answered yet. */
export function startSignIn(question) {
  unsent = question;
  if (NARROW.matches) document.getElementById("preferences").prepend(signedInAs, signOut, document.getElementById("forget-key")); // no room in the masthead
  signIn.addEventListener("click", leave);
  dialogButton.addEventListener("click", leave);
  signOut.addEventListener("click", () => end().catch(() => location.reload()));
  known = look();
}

/** What a session's requests must show: that this page has sent them. */
export async function sessionHeaders() {
  await known;
  return me ? { "X-CSRF-Token": me.csrf_token } : {};
}

/** Look again: another tab may have signed in, or out. */
export function renewSession() {
  known = look();
  return known;
}

/** The question that was typed before signing in; once. */
export function takeDraft() {
  const draft = sessionStorage.getItem(DRAFT) ?? "";
  sessionStorage.removeItem(DRAFT);
  return draft;
}

async function look() {
  const offered = await read("api/sign-in");
  offer = offered?.available ? offered : null;
  const found = offer && (await read("api/me"));
  me = found?.signed_in_by === "session" ? found : null;
  draw();
}

function draw() {
  signIn.hidden = !offer || Boolean(me);
  signOut.hidden = document.getElementById("sessions-link").hidden = !me;
  signedInAs.hidden = !me;
  signedInAs.textContent = me?.name ?? "";
  signedInAs.title = me ? [me.role, ...me.groups].join(", ") : "";
  dialogButton.hidden = !offer;
  if (!offer) return;
  dialogButton.autofocus = true;
  document.getElementById("key-input").autofocus = false;
  dialogButton.textContent = t("sign_in.at", { provider: offer.provider });
  document.getElementById("key-title").textContent = t("sign_in.or_key");
  if (document.getElementById("key-dialog").open) dialogButton.focus();
}

function leave() {
  const question = unsent();
  if (question) sessionStorage.setItem(DRAFT, question);
  location.assign(`${offer.address}?return_to=${encodeURIComponent(`/${location.hash}`)}`);
}

async function end() {
  const left = await fetch(address("auth/logout"), { method: "POST", headers: await sessionHeaders() });
  const { continue_at: next } = left.ok ? await left.json() : {};
  if (next) location.assign(next);
  else location.reload(); // nothing that was read stays on the page
}

async function read(path) {
  try {
    const response = await fetch(address(path));
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** An address of the desk's, wherever it is: this file is at `web/sign_in.js` there. */
function address(path) {
  return new URL(`../${path}`, import.meta.url);
}
