// An answer as a stream of events that outlives its connection.

import { ConnectionLost, Problem, request, requestJson } from "./api.js";
import { messages, pause } from "./sse.js";

const WAITS_MS = [300, 1000, 2000, 4000, 8000];
const LAST_EVENTS = new Set(["done", "error"]);
const REWRITTEN = "answer-rewritten"; // the last words seen died with the process that wrote them

/**
 * Ask, and yield every event once, in order, ending with `done` or `error`. A broken connection is resumed after the
 * last event seen; `reconnecting` is yielded while that is tried. An answer that was rewritten meanwhile is told again from
 * its start: a second `accepted` says so. Throws a Problem when the question is refused.
 */
export async function* ask(question, { conversationId, filters, cache, signal }) {
  const response = await request("/api/answers", {
    method: "POST",
    json: { question, conversation_id: conversationId, filters, cache },
    headers: { Accept: "text/event-stream" },
    signal,
  });
  yield* stream(response, { answerId: null, lastId: null, failures: 0 }, signal);
}

/** The events of an answer that was asked before, perhaps elsewhere, from its first. */
export async function* follow(answerId, { signal }) {
  const response = await request(answerPath(answerId, "/events"), { headers: { Accept: "text/event-stream" }, signal });
  yield* stream(response, { answerId, lastId: null, failures: 0 }, signal);
}

async function* stream(first, seen, signal) {
  let response = first;
  for (;;) {
    for await (const event of newEvents(response, seen)) {
      yield event;
      if (LAST_EVENTS.has(event.name)) return;
    }
    response = null;
    while (response === null) {
      if (seen.answerId === null || seen.failures >= WAITS_MS.length) throw new ConnectionLost();
      yield { name: "reconnecting", data: {} };
      response = await resume(seen, signal);
    }
  }
}

/** Stop the model at once. */
export function stop(answerId) {
  return request(answerPath(answerId), { method: "DELETE" });
}

/** An answer as one object: one's own, or one that somebody shares. */
export function readAnswer(answerId) {
  return requestJson(answerPath(answerId));
}

/** Let whoever may read all of its evidence read the answer. */
export function share(answerId) {
  return request(answerPath(answerId, "/share"), { method: "POST" });
}

export function unshare(answerId) {
  return request(answerPath(answerId, "/share"), { method: "DELETE" });
}

export function sendFeedback(answerId, feedback) {
  return request(answerPath(answerId, "/feedback"), { method: "POST", json: feedback });
}

function answerPath(answerId, rest = "") {
  return `/api/answers/${encodeURIComponent(answerId)}${rest}`;
}

async function* newEvents(response, seen) {
  try {
    for await (const event of messages(response)) {
      if (event.data.type === REWRITTEN) {
        seen.lastId = null;
        return;
      }
      if (event.id !== null && seen.lastId !== null && event.id <= seen.lastId) continue;
      seen.lastId = event.id ?? seen.lastId;
      seen.answerId ??= event.data.answer_id ?? null;
      seen.failures = 0;
      yield event;
    }
  } catch (error) {
    if (error.name === "AbortError") throw error; // stopped on purpose; any other break of the line is resumed
  }
}

/** The rest of the answer, or null when it cannot be had just now. */
async function resume(seen, signal) {
  await pause(WAITS_MS[seen.failures], signal);
  seen.failures += 1;
  const headers = { Accept: "text/event-stream" };
  if (seen.lastId !== null) headers["Last-Event-ID"] = String(seen.lastId);
  try {
    return await request(answerPath(seen.answerId, "/events"), { headers, signal });
  } catch (error) {
    if (error.type === REWRITTEN) seen.lastId = null;
    else if (!(error instanceof Problem && error.passing)) throw error;
    return null;
  }
}
