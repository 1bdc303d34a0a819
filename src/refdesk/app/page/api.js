// Calls to the service: the key, or the session's token, goes along, and every refusal becomes a Problem with words to show.

import { currentKey, nextKey } from "./key.js";
import { wordsOf } from "./refusals.js";
import { renewSession, sessionHeaders } from "./sign_in.js";
import { t } from "./texts.js";

/** Where the desk is: at the root of its address, or below a path of a proxy. This file is at `web/api.js` there. */
const DESK = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

/** The address of one of the service's paths. */
export function addressOf(path) {
  return `${DESK}${path}`;
}

/** A refusal; its message is `detail`, in the reader's language. */
export class Problem extends Error {
  constructor({ detail, status, type } = {}) {
    super(detail || t("service.answered", { status }));
    this.status = status;
    this.type = type;
  }

  /** Whether the same call may succeed a little later. */
  get passing() {
    return this.status === 429 || this.status >= 500;
  }
}

export class ConnectionLost extends Problem {
  constructor() {
    super({ detail: t("service.unreachable"), status: 0 });
  }

  get passing() {
    return true;
  }
}

/** Send a request; resolves with the response when it succeeded, rejects with a Problem when it did not. */
export function request(path, { method = "GET", json, headers = {}, signal, keepalive } = {}) {
  const body = json === undefined ? undefined : JSON.stringify(json);
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  return withKey(async (authorization) => {
    const response = await reach(path, { method, body, signal, keepalive, headers: { ...type, ...headers, ...authorization } });
    return { response, status: response.status, problem: () => problemOf(response) };
  }, method).then((sent) => sent.response);
}

export async function requestJson(path, options) {
  return (await request(path, options)).json();
}

/** Send one file as multipart with these fields, telling how far it has come (0 to 1); resolves with the parsed reply. */
export function upload(path, { method = "POST", file, fields = {} }, onProgress) {
  const send = (authorization) => sendForm(path, { method, form: formOf(file, fields), authorization }, onProgress);
  return withKey(send, method).then((sent) => sent.reply);
}

function formOf(file, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file, file.name);
  return form;
}

export function documentPath(id, rest = "") {
  return `/api/documents/${encodeURIComponent(id)}${rest}`;
}

/** Try with the key, or the session, there is; after a 401 ask for another key, until one is accepted or none is given. */
async function withKey(send, method) {
  for (let renewed = false; ;) {
    const key = currentKey();
    const sent = await send(key ? { Authorization: `Bearer ${key}` } : method === "GET" ? {} : await sessionHeaders());
    if (sent.status >= 200 && sent.status < 300) return sent;
    const problem = await sent.problem();
    if (problem.type === "cross-site" && !renewed) { // another tab has begun another session
      renewed = true;
      await renewSession();
      continue;
    }
    if (sent.status !== 401 || !(await nextKey(key))) throw problem;
  }
}

async function reach(path, options) {
  try {
    return await fetch(addressOf(path), options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ConnectionLost();
  }
}

async function problemOf(response) {
  return refusal(await response.json().catch(() => ({})), response.status);
}

async function refusal(fields, status) {
  return new Problem({ type: fields.type, detail: await wordsOf(fields), status });
}

// XMLHttpRequest, because fetch does not tell how much of a body has been sent.
function sendForm(path, { method, form, authorization }, onProgress) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open(method, addressOf(path));
    call.responseType = "json";
    Object.entries(authorization).forEach(([name, value]) => call.setRequestHeader(name, value));
    call.upload.addEventListener("progress", (event) => onProgress(event.loaded / (event.total || 1)));
    call.addEventListener("error", () => reject(new ConnectionLost()));
    call.addEventListener("load", () => resolve(fileReply(call)));
    call.send(form);
  });
}

function fileReply(call) {
  const reply = call.response ?? {};
  return { reply, status: call.status, problem: () => refusal(reply, call.status) };
}
