// One's own conversations, as the service keeps them.

import { request, requestJson } from "./api.js";

const PATH = "/api/conversations";
const PAGE_SIZE = 50;

/** Tells whoever shows conversations that one has changed. */
export function conversationChanged() {
  document.dispatchEvent(new Event("refdesk:conversations"));
}

export function onConversationsChanged(listener) {
  document.addEventListener("refdesk:conversations", listener);
}

export function listConversations({ words = "", cursor = null, signal } = {}) {
  const query = new URLSearchParams({ limit: PAGE_SIZE });
  if (words) query.set("q", words);
  if (cursor) query.set("cursor", cursor);
  return requestJson(`${PATH}?${query}`, { signal });
}

/** A conversation with all the turns that are kept, oldest first. */
export async function loadConversation(id) {
  let page = await requestJson(`${pathOf(id)}?limit=100`);
  const conversation = { ...page, turns: [...page.turns] };
  while (page.next_cursor) {
    page = await requestJson(`${pathOf(id)}?limit=100&cursor=${encodeURIComponent(page.next_cursor)}`);
    conversation.turns.unshift(...page.turns);
  }
  return conversation;
}

export function renameConversation(id, title) {
  return requestJson(pathOf(id), { method: "PATCH", json: { title } });
}

/** Also when the page is left just now. */
export function removeConversation(id) {
  return request(pathOf(id), { method: "DELETE", keepalive: true });
}

/** Drop a turn and those after it. */
export function dropTurns(id, answerId) {
  return request(`${pathOf(id)}/turns/${encodeURIComponent(answerId)}`, { method: "DELETE" });
}

export async function exportConversation(id, format) {
  return (await request(`${pathOf(id)}/export?format=${format}`)).blob();
}

export function conversationHash(id) {
  return `#conversation/${encodeURIComponent(id)}`;
}

function pathOf(id) {
  return `${PATH}/${encodeURIComponent(id)}`;
}
