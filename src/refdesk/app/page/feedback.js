// Thumbs and a comment under an answer.

import { sendFeedback } from "./answers.js";
import { part } from "./page.js";
import { write } from "./text.js";
import { t } from "./texts.js";

/** Wire the feedback controls of a turn that has an answer id. */
export function startFeedback(turn) {
  const { element } = turn;
  const thumbs = [...element.querySelectorAll(".thumb")];
  const comment = part(element, "comment");
  const note = part(element, "feedback-note");

  async function send(feedback, thanks) {
    try {
      await sendFeedback(turn.answerId, feedback);
      write(note, thanks);
    } catch (problem) {
      write(note, problem.message);
    }
  }

  function rate({ rating }) {
    thumbs.forEach((thumb) => thumb.setAttribute("aria-pressed", String(thumb.dataset.rating === rating)));
    comment.hidden = rating !== "down";
    if (rating === "down") comment.elements.comment.focus();
    return send({ rating }, t("feedback.thanks"));
  }

  thumbs.forEach((thumb) => thumb.addEventListener("click", () => rate(thumb.dataset)));
  comment.addEventListener("submit", (event) => {
    event.preventDefault();
    comment.hidden = true;
    thumbs.find((thumb) => thumb.dataset.rating === "down").focus();
    const text = comment.elements.comment.value.trim();
    if (text) send({ rating: "down", comment: text }, t("feedback.kept"));
  });
}
