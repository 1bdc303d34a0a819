// One question and its answer on the page, drawn event by event.

import { drawAnswer, spoken } from "./answer_text.js";
import { usedSentence } from "./evidence.js";
import { joined, moment, seconds } from "./format.js";
import { may } from "./me.js";
import { announce, make, part, passageHash, stamp } from "./page.js";
import { wordsOf } from "./refusals.js";
import { clean, headingsOf, placeOf, write, writeOrHide } from "./text.js";
import { hasText, t } from "./texts.js";
import { drawTopics, sectionOf } from "./topics.js";

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
  #quiet = false;
  #drawing = null; // the frame in which what has come is drawn
  #answer = this.element.querySelector(".answer");
  #status = this.element.querySelector(".status");

  /** `quiet`: nothing is read out of a turn that stood here before. */
  constructor(question, { quiet = false } = {}) {
    this.#quiet = quiet;
    write(this.element.querySelector(".turn-question"), question);
    this.#show("searching", t("turn.searching"));
    this.#say(t("turn.searching_aloud"));
  }

  /** Draw an answer that is kept, as its events would have. */
  restore(kept) {
    if (kept.status === "withdrawn") return this.#withdraw();
    this.on_accepted(kept);
    if (kept.sources.length > 0) this.on_sources(kept.sources);
    if (kept.text) this.on_delta(kept);
    kept.sentences.forEach((sentence) => this.on_sentence(sentence));
    this.#firstWordsMs = null;
    if (kept.status === "done") this.on_done(kept);
    else this.on_error({ ...kept.error, partial: Boolean(kept.text) });
  }

  /** The answer as text, its citations as numbers and what they stand for. */
  plain() {
    const text = clean(this.#text).trim();
    const cited = [...this.#cited].sort((one, other) => one - other).map((n) => this.#sources.get(n));
    const lines = cited.map((source) => `[${source.n}] ${joined(clean(source.title), placeWords(source))}`);
    return [`${this.element.querySelector(".turn-question").textContent}\n`, text, lines.length > 0 && "", ...lines]
      .filter((line) => line !== false).join("\n");
  }

  /** Say below the answer why something could not be done with it. */
  complain(text) {
    writeOrHide(part(this.element, "action-note"), text);
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
    this.#say(text);
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
    this.#sentences.push({ ...place, text: sentence, citations, support });
    this.#drawSoon();
    const aloud = this.#quiet ? "" : spoken(sentence, { quoted: this.#quoted });
    if (aloud) this.#say(aloud);
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
    whyDegraded(done).then((why) => writeOrHide(part(this.element, "degraded"), why));
    writeOrHide(part(this.element, "freshness"), this.#freshness(done));
    write(part(this.element, "small-print"), this.#smallPrint(done));
    part(this.element, "feedback").hidden = false;
    part(this.element, "actions").hidden = false;
    part(this.element, "continue").hidden = done.finish_reason !== "length";
    if (done.finish_reason === "stop") this.#drawTopics();
    this.#finish(done.finish_reason === "cancelled" ? "cancelled" : "done");
    this.#say(ending(done.finish_reason) || t("turn.complete", { n: this.#cited.size }));
  }

  on_error(problem) {
    this.#drawLast();
    this.#finish("failed");
    this.#sayWhy(problem);
  }

  async #sayWhy(problem) {
    const incomplete = problem.partial ? ` ${t("turn.incomplete")}` : "";
    const text = ((await inWords(problem)) || t("turn.failed")) + incomplete;
    write(part(this.element, "problem-text"), text);
    part(this.element, "problem").hidden = false;
    this.#say(text);
  }

  /** The person stopped it, and no more events will come. */
  cancelled() {
    this.#drawLast();
    this.element.dataset.finishReason = "cancelled";
    writeOrHide(part(this.element, "notice"), ending("cancelled"));
    this.#finish("cancelled");
    this.#say(ending("cancelled"));
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

  #say(text) {
    if (!this.#quiet) announce(text);
  }

  #withdraw() {
    this.finished = true;
    writeOrHide(part(this.element, "notice"), t("turn.withdrawn"));
    this.element.dataset.finishReason = "withdrawn";
    this.#show("withdrawn", "");
  }

  #sayNothingFound() {
    this.#text = t("turn.nothing");
    this.#say(this.#text);
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
    drawAnswer(this.#answer, answer, (n, sentence) => this.#citation(n, sentence));
    for (const card of this.element.querySelectorAll(".source")) this.#drawCard(card, Number(card.dataset.n));
  }

  #citation(n, index) {
    const source = this.#sources.get(n);
    if (!source) return null;
    this.#cited.add(n);
    return citationButton(source, this.#used(source, this.#sentences[index]));
  }

  /** The sentence of the source that this sentence of the answer stands on; empty where none stands out. */
  #used(source, sentence) {
    if (!sentence) return "";
    const known = (sentence.used ??= new Map());
    if (!known.has(source.n)) known.set(source.n, usedSentence(source.passage, sentence.text));
    return known.get(source.n);
  }

  /** A card shows the sentence that was used, as soon as one is; until then how its passage begins. */
  #drawCard(card, n) {
    const isCited = this.#cited.has(n);
    if (card.dataset.cited === String(isCited) && !isCited) return;
    card.dataset.cited = String(isCited);
    const source = this.#sources.get(n);
    const used = this.#sentences.map((sentence) => sentence.used?.get(n)).find(Boolean);
    if (!used) return;
    write(part(card, "passage"), used);
    part(card, "passage").dataset.used = "true";
    card.querySelector("a").href = passageHash(source.document_id, source.ordinal, used);
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

  /** What this answer, or one above it, has cited is not offered again. */
  #drawTopics() {
    const cards = document.querySelectorAll('.turn .source[data-cited="true"]');
    const read = new Set([...cards].map((card) => card.dataset.section));
    drawTopics(this.element, [...this.#sources.values()], { cited: this.#cited, read });
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

async function whyDegraded({ degraded, degraded_reason: detail, degraded_type: type, access_as_of: checkedAt }) {
  if (checkedAt) return t("turn.access_as_of", { when: moment(checkedAt) });
  return degraded && t("turn.quoted", { reason: await inWords({ type, detail }) }).trim();
}

/** Why something failed; administrators are told what the service says, too. */
function inWords(problem) {
  return wordsOf(problem, { aside: async () => ((await may("operations.read_content")) ? problem.detail : "") });
}

/** What an answer that ended so says below itself; nothing for a whole one. */
function ending(reason) {
  return hasText(`turn.${reason}`) ? t(`turn.${reason}`) : "";
}

function sourceCard(source) {
  const card = stamp("source-template");
  card.dataset.n = source.n;
  card.dataset.cited = "false";
  card.dataset.section = sectionOf(source);
  card.querySelector("a").href = passageHash(source.document_id, source.ordinal);
  write(part(card, "number"), source.n);
  write(part(card, "title"), source.title);
  writeOrHide(part(card, "place"), placeWords(source));
  write(part(card, "passage"), source.passage);
  part(card, "stale").hidden = !source.stale;
  return card;
}

function placeWords(source) {
  return joined(headingsOf(source.heading, source.title).join(" › "), source.page && t("reader.page", { n: source.page }));
}

function citationButton(source, used) {
  const button = make("button", "citation", `[${source.n}]`);
  const place = source.page ? `, ${t("reader.page", { n: source.page })}` : "";
  button.type = "button";
  button.dataset.testid = "citation";
  button.dataset.opens = passageHash(source.document_id, source.ordinal, used);
  button.setAttribute("aria-label", t("turn.source", { n: source.n, title: clean(source.title) }) + place);
  const raised = make("sup", "");
  raised.append(button);
  return raised;
}
