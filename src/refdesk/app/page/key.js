// The API key: asked for when a call is refused, kept for this tab only.

import { t } from "./texts.js";

const STORED_AS = "refdesk.key";
const dialog = document.getElementById("key-dialog");
const input = document.getElementById("key-input");
const problem = document.getElementById("key-problem");
const forget = document.getElementById("forget-key");
let asking = null; // several refused calls share one dialog
let declined = false; // until the person does something again: what the page asks by itself asks for no key then

export function currentKey() {
  return sessionStorage.getItem(STORED_AS);
}

/** The key to try after `refused` was not accepted, or null when the person would rather not give one. */
export function nextKey(refused) {
  const current = currentKey();
  if (current !== refused || declined) return Promise.resolve(current === refused ? null : current);
  asking ??= askForKey(refused).finally(() => { asking = null; });
  return asking;
}

/** Wire the dialog and the button that forgets the key. */
export function startKey() {
  forget.hidden = !currentKey();
  forget.addEventListener("click", () => {
    sessionStorage.removeItem(STORED_AS);
    location.reload(); // nothing that was read with the key stays on the page
  });
  document.getElementById("key-cancel").addEventListener("click", () => dialog.close("cancel"));
}

function askForKey(refused) {
  problem.textContent = refused ? t("key.refused") : "";
  problem.hidden = !refused;
  input.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(keepKey()), { once: true });
  });
}

function keepKey() {
  const key = input.value.trim();
  input.value = "";
  if (dialog.returnValue !== "confirm" || !key) {
    decline();
    return null;
  }
  sessionStorage.setItem(STORED_AS, key);
  forget.hidden = false;
  return key;
}

function decline() {
  declined = true;
  for (const deed of ["pointerdown", "keydown"]) addEventListener(deed, () => { declined = false; }, { once: true, capture: true });
}
