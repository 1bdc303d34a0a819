// Server-sent events over fetch: EventSource can neither POST nor send an Authorization header.

const SILENCE_MS_MAX = 30_000; // the service sends a heartbeat at least every 10 s; three missing ones mean a dead line

/** Feed it text as it comes; it gives back the messages that are complete: `{id, name, data}`. */
export class EventParser {
  #rest = "";
  #fields = {};

  feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/); // a last \r may be half of a \r\n
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (line === "") return this.#message();
    const [, name, value] = line.match(/^([^:]*)(?:: ?)?([^]*)$/);
    if (name === "data") (this.#fields.data ??= []).push(value);
    else if (name) this.#fields[name] = value;
    return null;
  }

  #message() {
    const { id, event, data } = this.#fields;
    this.#fields = {};
    return data && { id: id ? Number(id) : null, name: event ?? "message", data: data.join("\n") };
  }
}

/** The messages of a response, their data parsed as JSON, until the connection ends or falls silent. */
export async function* messages(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await withinSilence(reader.read());
      if (done) return;
      for (const message of parser.feed(decoder.decode(value, { stream: true }))) {
        yield { ...message, data: JSON.parse(message.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function withinSilence(reading) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new TypeError("The stream fell silent.")), SILENCE_MS_MAX);
  });
  return Promise.race([reading, silence]).finally(() => clearTimeout(timer));
}

/** Wait; ends early, without complaint, when the signal aborts. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
