// The dialogue: one conversation, its turns so far and the one that is being written.

import { ask, follow, readAnswer, stop } from "./answers.js";
import { Composer } from "./composer.js";
import { conversationChanged, conversationHash, dropTurns, loadConversation } from "./conversations.js";
import { startFeedback } from "./feedback.js";
import { make, part, quietAnnouncer } from "./page.js";
import { Filters } from "./filters.js";
import { takeDraft } from "./sign_in.js";
import { showStarters } from "./starters.js";
import { clean } from "./text.js";
import { t } from "./texts.js";
import { startActions } from "./turn_actions.js";
import { Turn } from "./turn.js";

const STOP_WAIT_MS = 1500; // for the last event of a stopped answer, before the line is cut
const STORED_AS = "refdesk.conversation"; // what this tab showed last

export class AskView {
  #view = document.getElementById("ask-view");
  #dialogue = document.getElementById("dialogue");
  #talk = fresh();
  #running = new Map(); // answers that come: by conversation, {turn, aborter, question}; also of those that are not in view
  #opening = 0;
  #filters = new Filters();
  #composer = new Composer({
    onAsk: (question, edited) => (edited ? this.#askInPlaceOf(edited, question) : this.#ask(question)),
    onStop: () => this.#stop(),
    onAnew: () => this.#startAnew(),
  });

  start() {
    this.#composer.giveBack(takeDraft());
    showStarters((question) => {
      this.focus();
      this.#ask(question);
    });
  }

  /** What was typed and has no answer yet. */
  get unsent() {
    const { turn, question } = this.#running.get(this.#talk.id) ?? {};
    return turn && turn.answerId === null ? question : this.#composer.text;
  }

  focus() {
    this.#composer.focus();
  }

  /** What the address says: a conversation, one answer, or wherever one was. */
  enter(kind, id) {
    if (kind === "conversation" && id) return this.#open(id);
    if (kind === "answer" && id) return this.#openAnswer(id);
    if (this.#isBegun) this.#sayAddress();
    else this.#sayTitle();
  }

  /** What a link asked: `?q=`. */
  ask(question) {
    this.#startAnew();
    this.#ask(question);
  }

  /** Goes back to what this tab showed last. */
  restore() {
    const id = sessionStorage.getItem(STORED_AS);
    if (id && !this.#isBegun) this.#open(id);
  }

  /** A conversation was deleted; it leaves the view. */
  left(id) {
    if (this.#talk.id === id) this.#startAnew();
  }

  get #isBegun() {
    return this.#dialogue.childElementCount > 0;
  }

  // opening

  async #open(id) {
    if (this.#talk.id === id && this.#isBegun) return this.#sayAddress();
    const opening = this.#begin({ ...fresh(), id });
    try {
      const conversation = await loadConversation(id);
      if (opening !== this.#opening) return;
      this.#talk.title = conversation.title;
      for (const kept of conversation.turns) this.#addKept(kept);
      this.#sayTitle();
    } catch (problem) {
      if (opening === this.#opening) this.#sayMissing(problem.status === 404 ? t("ask.missing") : problem.message);
    }
    this.#draw();
    this.#dialogue.lastElementChild?.scrollIntoView({ block: "start", behavior: "instant" });
  }

  async #openAnswer(id) {
    const opening = this.#begin({ ...fresh(), single: true });
    try {
      const answer = await readAnswer(id);
      if (opening !== this.#opening) return;
      this.#addKept({ ...answer, single: true });
      this.#talk.title = answer.question;
      this.#sayTitle();
    } catch (problem) {
      const missing = [404, 410].includes(problem.status);
      if (opening === this.#opening) this.#sayMissing(missing ? t("ask.answer_missing") : problem.message);
    }
    this.#draw();
  }

  #begin(talk) {
    this.#talk = talk;
    this.#dialogue.replaceChildren();
    this.#composer.clear();
    quietAnnouncer();
    this.#draw();
    return ++this.#opening;
  }

  #addKept(kept) {
    const running = this.#running.get(this.#talk.id);
    if (running && running.turn.answerId === kept.answer_id) return this.#dialogue.append(running.turn.element);
    const turn = new Turn(kept.question, { quiet: true });
    this.#add(turn, kept.question, kept);
    if (kept.status === "running") this.#follow(turn, kept.question, (signal) => follow(kept.answer_id, { signal }));
    else turn.restore(kept);
    return turn;
  }

  #sayMissing(text) {
    this.#dialogue.append(make("p", "problem", text));
  }

  // asking

  async #ask(question, { cache } = {}) {
    if (this.#talk.single) this.#begin(fresh());
    this.#dialogue.querySelector(":scope > .problem")?.remove();
    quietAnnouncer();
    const talk = this.#talk;
    const turn = new Turn(question);
    talk.title ||= question;
    this.#add(turn, question);
    this.#sayAddress();
    const filters = this.#filters.value;
    await this.#follow(turn, question, (signal) => ask(question, { conversationId: talk.id, filters, cache, signal }));
    if (turn.answerId === null && this.#talk === talk) this.#composer.giveBack(question);
    conversationChanged();
    const waiting = this.#talk === talk ? this.#composer.takeWaiting() : null;
    if (waiting) await this.#ask(waiting);
  }

  /** Draws the events of an answer as they come. */
  async #follow(turn, question, events) {
    const { id } = this.#talk;
    const aborter = new AbortController();
    this.#running.set(id, { turn, aborter, question });
    this.#draw();
    try {
      for await (const event of events(aborter.signal)) turn.handle(event);
    } catch (error) {
      if (aborter.signal.aborted) turn.cancelled();
      else if (!turn.finished) turn.handle({ name: "error", data: { detail: error.message } });
    } finally {
      if (this.#running.get(id)?.turn === turn) this.#running.delete(id);
      this.#draw();
    }
  }

  #add(turn, question, kept = {}) {
    this.#dialogue.append(turn.element);
    this.#view.classList.remove("is-empty");
    part(turn.element, "ask-again").addEventListener("click", () => this.#askAgain(turn, question));
    startFeedback(turn);
    startActions(turn, {
      kept,
      onRegenerate: () => this.#askInPlaceOf(turn, question, { cache: "bypass" }),
      onEdit: () => this.#edit(turn, question),
      onContinue: () => this.#askNext(t("turn.go_on_question")),
      onTopic: (section) => {
        this.focus(); // what was pressed goes away
        this.#askNext(section);
      },
    });
    if (!kept.answer_id) turn.element.scrollIntoView({ block: "start" });
  }

  #askNext(question) {
    if (!this.#running.has(this.#talk.id)) this.#ask(question);
  }

  #edit(turn, question) {
    if (!this.#running.has(this.#talk.id)) this.#composer.edit(turn, clean(question));
  }

  #askAgain(turn, question) {
    if (this.#running.has(this.#talk.id)) return;
    this.#askInPlaceOf(turn, question);
    this.focus();
  }

  /** The conversation goes on from before this turn. */
  async #askInPlaceOf(turn, question, options) {
    if (this.#running.has(this.#talk.id)) return;
    const talk = this.#talk;
    if (turn.answerId && !talk.single) {
      try {
        await dropTurns(talk.id, turn.answerId);
      } catch (problem) {
        if (problem.status !== 404) return turn.complain(problem.message);
      }
    }
    if (this.#talk !== talk) return;
    while (turn.element.nextElementSibling) turn.element.nextElementSibling.remove();
    turn.element.remove();
    await this.#ask(question, options);
  }

  async #stop() {
    const { turn, aborter } = this.#running.get(this.#talk.id) ?? {};
    if (!turn) return;
    const cut = () => aborter.abort();
    if (turn.answerId === null) return cut();
    setTimeout(cut, STOP_WAIT_MS);
    await stop(turn.answerId).catch(cut);
  }

  #startAnew() {
    this.#begin(fresh());
    this.#sayAddress();
    this.focus();
  }

  // showing

  #draw() {
    const isRunning = this.#running.has(this.#talk.id);
    this.#view.classList.toggle("is-empty", !this.#isBegun);
    this.#composer.draw({ running: isRunning, isBegun: this.#isBegun });
  }

  #sayAddress() {
    const hash = this.#isBegun && !this.#talk.single ? conversationHash(this.#talk.id) : "#ask";
    if (this.#isBegun) sessionStorage.setItem(STORED_AS, this.#talk.id);
    else sessionStorage.removeItem(STORED_AS);
    if (!location.hash.startsWith("#document/")) history.replaceState(null, "", hash);
    this.#sayTitle();
    dispatchEvent(new CustomEvent("refdesk:address", { detail: hash }));
  }

  #sayTitle() {
    document.title = this.#talk.title ? `${clean(this.#talk.title)} · Refdesk` : "Refdesk";
  }
}

function fresh() {
  return { id: newId(), title: "", single: false };
}

/** A random id; crypto.randomUUID exists only on https and localhost, and a desk may live on plain http inside. */
function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const digit = (mask) => (mask ^ (crypto.getRandomValues(new Uint8Array(1))[0] & (15 >> (mask / 4)))).toString(16);
  return "10000000-1000-4000-8000-100000000000".replace(/[018]/g, digit); // RFC 9562, version 4
}
