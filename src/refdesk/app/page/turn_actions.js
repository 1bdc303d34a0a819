// What can be done with an answer: copied with its citations, written again, gone on with, shared; its question edited; a topic asked.

import { share, unshare } from "./answers.js";
import { copy } from "./handing_out.js";
import { part } from "./page.js";
import { writeOrHide } from "./text.js";
import { t } from "./texts.js";

/** `kept` is the turn as the service keeps it: whether it is shared, and whether it stands alone, outside its conversation. */
export function startActions(turn, { kept, onRegenerate, onEdit, onContinue, onTopic }) {
  const { element } = turn;
  const on = (name, work) => part(element, name).addEventListener("click", work);
  element.classList.toggle("is-single", Boolean(kept.single));
  element.classList.toggle("is-foreign", Boolean(kept.single && !kept.conversation_id)); // only its owner is told its conversation
  on("regenerate", onRegenerate);
  on("edit", onEdit);
  on("continue", onContinue);
  on("topics-list", ({ target }) => target.dataset.asks && onTopic(target.dataset.asks));
  on("copy", () => say(turn, () => copy(turn.plain()), t("turn.copied")));
  on("share", () => say(turn, () => share(turn.answerId).then(() => drawShared(turn, true)), ""));
  on("unshare", () => say(turn, () => unshare(turn.answerId).then(() => drawShared(turn, false)), t("turn.unshared")));
  on("copy-link", () => say(turn, () => copy(part(element, "link").value), t("turn.link_copied")));
  if (kept.shared) drawShared(turn, true);
}

async function say(turn, work, done) {
  const note = part(turn.element, "action-note");
  try {
    await work();
    writeOrHide(note, done);
  } catch (problem) {
    writeOrHide(note, problem.name === "Error" || problem.name === "NotAllowedError" ? t("turn.not_copied") : problem.message);
  }
}

function drawShared(turn, shared) {
  const { element } = turn;
  const link = part(element, "link");
  part(element, "shared").hidden = !shared;
  part(element, "share").hidden = shared;
  if (!shared) return;
  const address = new URL(location.href);
  address.hash = "";
  address.search = `?answer=${encodeURIComponent(turn.answerId)}`;
  link.value = address.href;
}
