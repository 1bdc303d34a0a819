// The dialogue: one question at a time, follow-ups in the same conversation.

import { ask, stop } from "./answers.js";
import { requestJson } from "./api.js";
import { startFeedback } from "./feedback.js";
import { make, part, quietAnnouncer } from "./page.js";
import { takeDraft } from "./sign_in.js";
import { Turn } from "./turn.js";

const STOP_WAIT_MS = 1500; // for the last event of a stopped answer, before the line is cut
const EXAMPLES_MAX = 3;

export class AskView {
  #view = document.getElementById("ask-view");
  #dialogue = document.getElementById("dialogue");
  #form = document.getElementById("ask-form");
  #question = document.getElementById("question");
  #askButton = document.getElementById("ask-button");
  #stopButton = document.getElementById("stop-button");
  #newConversation = document.getElementById("new-conversation");
  #conversationId = newId();
  #running = null; // {turn, aborter, question} while an answer comes

  start() {
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#question.addEventListener("keydown", (event) => this.#submitOnEnter(event));
    this.#stopButton.addEventListener("click", () => this.#stop());
    this.#newConversation.addEventListener("click", () => this.#startAnew());
    this.#question.value = takeDraft();
    this.#showExamples();
  }

  /** What was typed and has no answer yet. */
  get unsent() {
    const { turn, question } = this.#running ?? {};
    return turn && turn.answerId === null ? question : this.#question.value.trim();
  }

  focus() {
    this.#question.focus({ preventScroll: true });
  }

  #submitOnEnter(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #submit(event) {
    event.preventDefault();
    const question = this.#question.value.trim();
    if (!question || this.#running) return;
    this.#question.value = "";
    this.#ask(question);
  }

  async #ask(question) {
    quietAnnouncer();
    const turn = new Turn(question);
    const aborter = new AbortController();
    this.#running = { turn, aborter, question };
    this.#add(turn, question);
    this.#drawControls();
    try {
      await this.#follow(turn, question, aborter.signal);
    } finally {
      if (this.#running?.turn === turn) this.#running = null;
      this.#drawControls();
    }
  }

  async #follow(turn, question, signal) {
    try {
      for await (const event of ask(question, { conversationId: this.#conversationId, signal })) turn.handle(event);
    } catch (error) {
      if (turn.finished) return;
      if (signal.aborted) turn.cancelled();
      else turn.handle({ name: "error", data: { detail: error.message } });
    }
  }

  #add(turn, question) {
    this.#view.classList.remove("is-empty");
    this.#dialogue.append(turn.element);
    part(turn.element, "ask-again").addEventListener("click", () => this.#askAgain(turn, question));
    startFeedback(turn);
    turn.element.scrollIntoView({ block: "start" });
  }

  #askAgain(turn, question) {
    if (this.#running) return;
    turn.element.remove();
    this.#ask(question);
    this.focus();
  }

  async #stop() {
    const { turn, aborter } = this.#running ?? {};
    if (!turn) return;
    const cut = () => aborter.abort();
    if (turn.answerId === null) return cut();
    setTimeout(cut, STOP_WAIT_MS);
    await stop(turn.answerId).catch(cut);
  }

  #startAnew() {
    this.#running?.aborter.abort();
    if (this.#running?.turn.answerId) stop(this.#running.turn.answerId).catch(() => {});
    this.#running = null;
    this.#conversationId = newId();
    this.#dialogue.replaceChildren();
    this.#view.classList.add("is-empty");
    quietAnnouncer();
    this.#drawControls();
    this.focus();
  }

  #drawControls() {
    const running = this.#running !== null;
    const hadFocus = [this.#askButton, this.#stopButton].includes(document.activeElement);
    this.#askButton.hidden = running;
    this.#stopButton.hidden = !running;
    this.#newConversation.hidden = this.#dialogue.childElementCount === 0;
    if (hadFocus) (running ? this.#stopButton : this.#question).focus();
  }

  async #showExamples() {
    const list = document.getElementById("examples");
    const { questions } = await requestJson("/api/examples").catch(() => ({ questions: [] }));
    list.replaceChildren(...questions.slice(0, EXAMPLES_MAX).map((question) => this.#example(question)));
    list.hidden = questions.length === 0;
  }

  #example(question) {
    const item = make("li", "");
    const button = make("button", "example", question);
    button.type = "button";
    button.dataset.testid = "example";
    button.addEventListener("click", () => {
      this.focus();
      this.#ask(question);
    });
    item.append(button);
    return item;
  }
}

/** A random id; crypto.randomUUID exists only on https and localhost, and a desk may live on plain http inside. */
function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const digit = (mask) => (mask ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (mask / 4)))).toString(16);
  return "10000000-1000-4000-8000-100000000000".replace(/[018]/g, digit); // RFC 9562, version 4
}
