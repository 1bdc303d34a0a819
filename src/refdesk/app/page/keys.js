// API keys and sessions: who may come in, as what, until when, and when they last did. For administrators.

import { request, requestJson } from "./api.js";
import { namesIn } from "./bulk.js";
import { joined, moment } from "./format.js";
import { announce, part, stamp } from "./page.js";
import { isSure } from "./sure.js";
import { attempt, clean, write, writeOrHide } from "./text.js";
import { t } from "./texts.js";

const KEYS = "/api/keys";
const SESSIONS = "/api/sessions";

export class View {
  #form = document.getElementById("key-form-new");
  #change = document.getElementById("key-change-form");
  #changeDialog = document.getElementById("key-change-dialog");
  #made = document.getElementById("key-made-dialog");
  #problem = document.getElementById("keys-problem");
  #changed = null; // the key whose dialog is open

  start() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(this.#problem, () => this.#create());
    });
    this.#change.addEventListener("submit", () => attempt(this.#problem, () => this.#save()));
    document.getElementById("key-change-cancel").addEventListener("click", () => this.#changeDialog.close());
    document.getElementById("key-copy").addEventListener("click", () => this.#copy());
    this.#made.addEventListener("close", () => write(document.getElementById("key-made-value"), "")); // shown once
  }

  enter() {
    return attempt(this.#problem, async () => {
      await this.#loadKeys();
      await this.#loadSessions();
    });
  }

  async #loadKeys() {
    const { keys } = await requestJson(KEYS);
    document.getElementById("keys-first").hidden = keys.length > 0;
    document.getElementById("keys-rows").replaceChildren(...keys.map((one) => this.#keyRow(one)));
  }

  #keyRow(key) {
    const row = stamp("key-template");
    row.dataset.name = key.name;
    write(part(row, "name"), key.name);
    write(part(row, "id"), key.id);
    write(part(row, "role"), joined(t(`role.${key.role}`), key.holder === "service" && t("keys.of_service")));
    write(part(row, "groups"), key.groups.join(", ") || "–");
    write(part(row, "made"), moment(key.created_at));
    write(part(row, "used"), key.last_used_at ? moment(key.last_used_at) : t("list.never"));
    write(part(row, "expires"), key.expires_at ? moment(key.expires_at) : t("list.never"));
    writeOrHide(part(row, "previous"), key.previous_until ? t("keys.before", { when: moment(key.previous_until) }) : "");
    row.classList.toggle("is-over", Boolean(key.expires_at) && new Date(key.expires_at) <= new Date());
    const actions = { change: () => this.#openChange(key), rotate: () => this.#rotate(key), revoke: () => this.#revoke(key) };
    for (const [name, work] of Object.entries(actions)) {
      part(row, name).addEventListener("click", work);
      part(row, name).setAttribute("aria-label", t(`keys.${name}_of`, { name: clean(key.name) }));
    }
    return row;
  }

  async #create() {
    const { name, role, groups, holder, expires } = this.#form.elements;
    const json = { name: name.value.trim(), role: role.value, groups: namesIn(groups.value), holder: holder.value, expires_at: endOf(expires.value) };
    const made = await requestJson(KEYS, { method: "POST", json });
    this.#form.reset();
    this.#show(made);
  }

  async #rotate(key) {
    if (!(await isMeant("rotate", key))) return;
    await attempt(this.#problem, async () => this.#show(await requestJson(pathOf(key, "/rotate"), { method: "POST", json: {} })));
  }

  async #revoke(key) {
    if (!(await isMeant("revoke", key))) return;
    await attempt(this.#problem, async () => {
      await request(pathOf(key), { method: "DELETE" });
      announce(t("keys.revoked", { name: key.name }));
      await this.#loadKeys();
      document.getElementById("keys-title").focus();
    });
  }

  #openChange(key) {
    this.#changed = key;
    const { role, groups, expires } = this.#change.elements;
    write(document.getElementById("key-change-title"), key.name);
    role.value = key.role;
    groups.value = key.groups.join(", ");
    expires.value = key.expires_at ? localDay(key.expires_at) : "";
    this.#changeDialog.showModal();
  }

  /** What was left as it was is not sent: a key's end has a time of the day that the form does not show. */
  async #save() {
    const { role, groups, expires } = this.#change.elements;
    const before = this.#changed.expires_at ? localDay(this.#changed.expires_at) : "";
    const end = expires.value === before ? {} : { expires_at: endOf(expires.value) };
    await request(pathOf(this.#changed), { method: "PATCH", json: { role: role.value, groups: namesIn(groups.value), ...end } });
    announce(t("keys.changed", { name: this.#changed.name }));
    await this.#loadKeys();
  }

  /** The key itself, once. The list is loaded when it was seen: after the first key of a desk, only with that one. */
  #show(made) {
    write(document.getElementById("key-made-title"), t("keys.key_of", { name: made.name }));
    write(document.getElementById("key-made-value"), made.key);
    write(document.getElementById("key-copied"), "");
    this.#made.addEventListener("close", () => this.enter(), { once: true });
    this.#made.showModal();
  }

  async #copy() {
    const value = document.getElementById("key-made-value");
    const isCopied = await navigator.clipboard.writeText(value.textContent).then(() => true, () => false);
    if (!isCopied) getSelection().selectAllChildren(value);
    write(document.getElementById("key-copied"), t(isCopied ? "keys.copied" : "keys.selected"));
  }

  async #loadSessions() {
    const found = await requestJson(`${SESSIONS}?all=true`).catch((problem) => {
      if (problem.status === 404) return null; // nobody signs in here
      throw problem;
    });
    document.getElementById("sessions").hidden = !found;
    document.getElementById("sessions-empty").hidden = found?.sessions.length !== 0;
    document.getElementById("sessions-rows").replaceChildren(...(found?.sessions ?? []).map((one) => this.#sessionRow(one)));
  }

  #sessionRow(session) {
    const row = stamp("session-template");
    write(part(row, "name"), joined(session.name, session.current && t("sessions.this")));
    write(part(row, "id"), session.principal_id);
    write(part(row, "role"), t(`role.${session.role}`));
    write(part(row, "groups"), session.groups.join(", ") || "–");
    write(part(row, "browser"), session.browser);
    write(part(row, "begun"), moment(session.created_at));
    write(part(row, "seen"), moment(session.seen_at));
    write(part(row, "expires"), moment(session.expires_at));
    part(row, "end").setAttribute("aria-label", t("keys.end_of", { name: clean(session.name) }));
    part(row, "end").addEventListener("click", () => attempt(this.#problem, async () => {
      await request(`${SESSIONS}/${encodeURIComponent(session.id)}`, { method: "DELETE" });
      announce(t("keys.ended", { name: session.name }));
      await this.#loadSessions();
      document.getElementById("sessions-title").focus();
    }));
    return row;
  }
}

/** Whether a key shall be rotated, or revoked. */
function isMeant(action, { name }) {
  const [title, text, yes] = [t(`keys.${action}_title`, { name }), t(`keys.${action}_text`), t(`key_action.${action}`)];
  return isSure({ title, text, yes, danger: true });
}

function pathOf({ name }, rest = "") {
  return `${KEYS}/${encodeURIComponent(name)}${rest}`;
}

/** The last moment of a day where the reader is; null for none. */
function endOf(day) {
  return day ? new Date(`${day}T23:59:59`).toISOString() : null;
}

function localDay(moment) {
  const date = new Date(moment);
  return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((number) => String(number).padStart(2, "0")).join("-");
}
