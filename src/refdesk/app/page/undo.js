// What was done can be undone for a moment: only then does the service hear of it.

import { write } from "./text.js";
import { t } from "./texts.js";

const WAIT_MS = 7000;
let pending = null; // {commit, undo, timer}

/**
 * Say what was done, with a way back. `commit` is called when nobody took it in time, or the page is left; `undo` when somebody
 * did.
 */
export function offerUndo(text, { commit, undo }) {
  settle();
  const toast = document.getElementById("toast");
  write(document.getElementById("toast-text"), text);
  const button = document.getElementById("toast-undo");
  button.textContent = t("undo.undo");
  button.onclick = () => take();
  toast.hidden = false;
  pending = { commit, undo, timer: setTimeout(settle, WAIT_MS) };
}

/** Do what waits, now. */
export function settle() {
  const settled = close();
  settled?.commit();
}

function take() {
  close()?.undo();
}

function close() {
  const closed = pending;
  pending = null;
  clearTimeout(closed?.timer);
  document.getElementById("toast").hidden = true;
  return closed;
}

addEventListener("pagehide", settle);
