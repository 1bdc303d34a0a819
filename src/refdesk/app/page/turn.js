// One question and its answer on the page, drawn event by event.

import { drawAnswer, spoken } from "./answer_text.js";
import { joined, moment, seconds } from "./format.js";
import { announce, make, part, passageHash, stamp } from "./page.js";
import { clean, placeOf, write, writeOrHide } from "./text.js";
import { hasText, t } from "./texts.js";

const QUOTING = "extractive"; // the model that writes no Markdown: it quotes
const LAG_SECONDS_SHOWN = 1;

export class Turn {
  answerId = null;
  finished = false;
  element = stamp("turn-template");

  #askedAt = performance.now();
  #firstWordsMs = null;
  #model = "";
  #cache = "";
  #sources = new Map();
  #cited = new Set();
  #text = "";
  #sentences = [];
  #quoted = false;
  #drawing = null; // the frame in which what has come is drawn
  #answer = this.element.querySelector(".answer");
  #status = this.element.querySelector(".status");

  constructor(question) {
    write(this.element.querySelector(".turn-question"), question);
    this.#show("searching", t("turn.searching"));
    announce(t("turn.searching_aloud"));
  }

  handle({ name, data }) {
    this[`on_${name}`]?.(data);
  }

  /** The answer begins; what an earlier beginning has left is gone. */
  on_accepted({ answer_id, model, cache }) {
    this.#text = "";
    this.#sentences = [];
    this.#quoted = model === QUOTING;
    this.#draw();
    this.answerId = answer_id;
    this.#model = model;
    this.#cache = cache;
    this.element.dataset.answerId = answer_id;
  }

  on_queued({ position, estimated_seconds }) {
    const text = t("turn.queued", { n: position, wait: seconds(estimated_seconds) });
    this.#show("queued", text);
    announce(text);
  }

  on_sources(sources) {
    this.#sources = new Map(sources.map((source) => [source.n, source]));
    const section = part(this.element, "sources");
    section.querySelector("ol").replaceChildren(...sources.map(sourceCard));
    section.hidden = sources.length === 0;
    this.#show("reading", t("turn.reading", { n: sources.length }));
  }

  on_delta({ text }) {
    this.#wordsCame();
    this.#text += text;
    this.#drawSoon();
  }

  on_sentence({ text, citations, support }) {
    this.#wordsCame();
    const sentence = clean(text);
    const place = placeOf(sentence, clean(this.#text), this.#sentences.at(-1)?.ends ?? 0);
    this.#sentences.push({ ...place, citations, support });
    this.#drawSoon();
    const aloud = spoken(sentence, { quoted: this.#quoted });
    if (aloud) announce(aloud);
  }

  on_reconnecting() {
    this.#show("reconnecting", t("turn.reconnecting"));
  }

  on_done(done) {
    this.element.dataset.finishReason = done.finish_reason;
    if (done.finish_reason === "not_found" && !this.#text) this.#sayNothingFound();
    if (done.degraded_reason || (done.degraded && !done.access_as_of)) this.#quoted = true;
    this.#drawLast();
    writeOrHide(part(this.element, "notice"), ending(done.finish_reason));
    writeOrHide(part(this.element, "degraded"), whyDegraded(done));
    writeOrHide(part(this.element, "freshness"), this.#freshness(done));
    write(part(this.element, "small-print"), this.#smallPrint(done));
    part(this.element, "feedback").hidden = false;
    this.#finish(done.finish_reason === "cancelled" ? "cancelled" : "done");
    announce(ending(done.finish_reason) || t("turn.complete", { n: this.#cited.size }));
  }

  on_error(problem) {
    this.#drawLast();
    const incomplete = problem.partial ? ` ${t("turn.incomplete")}` : "";
    const text = (problem.detail || problem.title || t("turn.failed")) + incomplete;
    write(part(this.element, "problem-text"), text);
    part(this.element, "problem").hidden = false;
    this.#finish("failed");
    announce(text);
  }

  /** The person stopped it, and no more events will come. */
  cancelled() {
    this.#drawLast();
    this.element.dataset.finishReason = "cancelled";
    writeOrHide(part(this.element, "notice"), ending("cancelled"));
    this.#finish("cancelled");
    announce(ending("cancelled"));
  }

  #wordsCame() {
    this.#firstWordsMs ??= performance.now() - this.#askedAt;
    this.#show("answering", t("turn.answering"));
  }

  #show(state, text) {
    if (this.element.dataset.state === state && state !== "queued") return;
    this.element.dataset.state = state;
    writeOrHide(this.#status, text);
  }

  #sayNothingFound() {
    this.#text = t("turn.nothing");
    announce(this.#text);
  }

  #finish(state) {
    this.#show(state, "");
    this.#foldSources();
  }

  #drawSoon() {
    this.#drawing ??= requestAnimationFrame(() => this.#draw());
  }

  #drawLast() {
    this.finished = true;
    this.#draw();
  }

  #draw() {
    cancelAnimationFrame(this.#drawing);
    this.#drawing = null;
    const answer = { text: clean(this.#text), sentences: this.#sentences, growing: !this.finished, quoted: this.#quoted };
    this.#cited.clear();
    drawAnswer(this.#answer, answer, (n) => this.#citation(n));
    for (const card of this.element.querySelectorAll(".source")) card.dataset.cited = this.#cited.has(Number(card.dataset.n));
  }

  #citation(n) {
    const source = this.#sources.get(n);
    if (!source) return null;
    this.#cited.add(n);
    return citationButton(source);
  }

  /** Once the answer stands, keep the sources it cites in view and fold away the rest. */
  #foldSources() {
    const folded = this.#sources.size - this.#cited.size;
    if (this.#cited.size === 0 || folded === 0) return;
    const list = this.element.querySelector(".sources ol");
    const button = part(this.element, "more-sources");
    const draw = (open) => {
      list.classList.toggle("folded", !open);
      button.setAttribute("aria-expanded", String(open));
      button.textContent = open ? t("turn.cited_only") : t("turn.uncited", { n: folded });
    };
    button.addEventListener("click", () => draw(list.classList.contains("folded")));
    button.hidden = false;
    draw(false);
  }

  /** What the answer may not know yet; nothing when the index is up to date. */
  #freshness({ as_of, index_lag_seconds: lag }) {
    const stale = [...this.#sources.values()].filter((source) => source.stale && this.#cited.has(source.n)).length;
    const behind = lag > LAG_SECONDS_SHOWN;
    return [
      behind && t("turn.behind", { lag: seconds(lag), when: moment(as_of) }),
      stale > 0 && t("turn.stale_sources", { n: stale }),
    ].filter(Boolean).join(" ");
  }

  #smallPrint({ usage, as_of }) {
    const tokens = usage.input_tokens + usage.output_tokens;
    return joined(
      this.#model,
      ["hit", "semantic"].includes(this.#cache) && t("turn.from_cache"),
      this.#firstWordsMs !== null && t("turn.first_words", { ms: Math.round(this.#firstWordsMs) }),
      tokens > 0 && t("turn.tokens", { input: usage.input_tokens, output: usage.output_tokens }),
      as_of && t("turn.as_of", { when: moment(as_of) }),
    );
  }
}

function whyDegraded({ degraded, degraded_reason: reason, access_as_of: checkedAt }) {
  if (checkedAt) return t("turn.access_as_of", { when: moment(checkedAt) });
  return degraded && t("turn.quoted", { reason: reason || "" }).trim();
}

/** What an answer that ended so says below itself; nothing for a whole one. */
function ending(reason) {
  return hasText(`turn.${reason}`) ? t(`turn.${reason}`) : "";
}

function sourceCard(source) {
  const card = stamp("source-template");
  card.dataset.n = source.n;
  card.dataset.cited = "false";
  card.querySelector("a").href = passageHash(source.document_id, source.ordinal);
  write(part(card, "number"), source.n);
  write(part(card, "title"), source.title);
  writeOrHide(part(card, "place"), joined(source.heading, source.page && t("reader.page", { n: source.page })));
  write(part(card, "passage"), source.passage);
  part(card, "stale").hidden = !source.stale;
  return card;
}

function citationButton(source) {
  const button = make("button", "citation", `[${source.n}]`);
  const place = source.page ? `, ${t("reader.page", { n: source.page })}` : "";
  button.type = "button";
  button.dataset.testid = "citation";
  button.dataset.opens = passageHash(source.document_id, source.ordinal);
  button.setAttribute("aria-label", t("turn.source", { n: source.n, title: clean(source.title) }) + place);
  const raised = make("sup", "");
  raised.append(button);
  return raised;
}
