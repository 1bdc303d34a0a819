// Where one is signed in oneself, and ending that elsewhere.

import { request, requestJson } from "./api.js";
import { joined, moment } from "./format.js";
import { announce, part, stamp } from "./page.js";
import { write, writeOrHide } from "./text.js";
import { t } from "./texts.js";

const PATH = "/api/sessions";

export class View {
  #list = document.getElementById("own-sessions");

  enter() {
    return this.#attempt(() => this.#load());
  }

  async #load() {
    const { sessions } = await requestJson(PATH);
    this.#list.replaceChildren(...sessions.map((one) => this.#row(one)));
  }

  #row(session) {
    const row = stamp("own-session-template");
    write(part(row, "browser"), joined(session.browser, session.current && t("sessions.this")));
    write(part(row, "about"), joined(
      t("sessions.since", { when: moment(session.created_at) }),
      t("sessions.seen", { when: moment(session.seen_at) }),
      t("sessions.until", { when: moment(session.expires_at) }),
    ));
    part(row, "end").hidden = session.current; // one signs out of this one
    part(row, "end").addEventListener("click", () => this.#attempt(() => this.#end(session)));
    return row;
  }

  async #end(session) {
    await request(`${PATH}/${encodeURIComponent(session.id)}`, { method: "DELETE" });
    announce(t("sessions.ended"));
    await this.#load();
    document.getElementById("sessions-view-title").focus();
  }

  async #attempt(work) {
    const problem = document.getElementById("own-sessions-problem");
    try {
      await work();
      writeOrHide(problem, "");
    } catch (refusal) {
      this.#list.replaceChildren();
      writeOrHide(problem, refusal.status === 404 ? t("sessions.none") : refusal.message);
    }
  }
}
