// The box in which questions are written: asking, stopping, one question that waits, and a question that is asked anew.

import { write } from "./text.js";
import { t } from "./texts.js";

export class Composer {
  #form = document.getElementById("ask-form");
  #question = document.getElementById("question");
  #askButton = document.getElementById("ask-button");
  #stopButton = document.getElementById("stop-button");
  #newConversation = document.getElementById("new-conversation");
  #line = document.getElementById("composer-line");
  #lineText = document.getElementById("composer-line-text");
  #lineCancel = document.getElementById("composer-line-cancel");
  #waiting = null; // the question that is asked when the answer is complete
  #editing = null; // {turn, question} that the next question takes the place of
  #running = false;
  #onAsk;

  /** `onAsk(question, editedTurn)`; `editedTurn` is null for a new question. */
  constructor({ onAsk, onStop, onAnew }) {
    this.#onAsk = onAsk;
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#question.addEventListener("keydown", (event) => this.#onKey(event));
    this.#stopButton.addEventListener("click", onStop);
    this.#newConversation.addEventListener("click", onAnew);
    this.#lineCancel.addEventListener("click", () => this.#cancelLine());
  }

  get text() {
    return this.#question.value.trim();
  }

  focus() {
    this.#question.focus({ preventScroll: true });
  }

  /** Puts a question into the box, where somebody has not begun another. */
  giveBack(question) {
    if (!this.#question.value.trim()) this.#question.value = question;
  }

  /** The next question takes the place of this turn and those after it. */
  edit(turn, question) {
    this.#editing = { turn, question };
    this.#question.value = question;
    this.#drawLine(t("ask.editing"));
    this.#question.focus();
    this.#question.select();
  }

  /** The question that waits, once. */
  takeWaiting() {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting) this.#drawLine("");
    return waiting;
  }

  /** Nothing waits any more, and nothing is edited. */
  clear() {
    this.#waiting = this.#editing = null;
    this.#drawLine("");
  }

  draw({ running, isBegun }) {
    const hadFocus = [this.#askButton, this.#stopButton].includes(document.activeElement);
    this.#running = running;
    this.#askButton.hidden = running;
    this.#stopButton.hidden = !running;
    this.#newConversation.hidden = !isBegun;
    if (hadFocus) (running ? this.#stopButton : this.#question).focus();
  }

  #onKey(event) {
    if (event.key === "Escape" && this.#editing) return this.#cancelLine();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #submit(event) {
    event.preventDefault();
    const question = this.#question.value.trim();
    if (!question) return;
    if (this.#running) return this.#wait(question);
    const turn = this.#editing?.turn ?? null;
    this.clear();
    this.#question.value = "";
    this.#onAsk(question, turn);
  }

  #wait(question) {
    if (this.#editing) return; // the turn that it replaces is still being written
    if (this.#waiting) return this.#drawLine(t("ask.waits_already", { question: this.#waiting }));
    this.#waiting = question;
    this.#question.value = "";
    this.#drawLine(t("ask.waits", { question }));
  }

  #cancelLine() {
    const question = this.#waiting ?? "";
    if (this.#editing) this.#question.value = "";
    this.clear();
    this.giveBack(question);
    this.focus();
  }

  #drawLine(text) {
    write(this.#lineText, text);
    this.#line.hidden = !text;
  }
}
