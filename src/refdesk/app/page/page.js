// Small things every part of the page needs.

import { clean } from "./text.js";

/** The element inside `root` that a template named with data-part. */
export function part(root, name) {
  return root.querySelector(`[data-part="${name}"]`);
}

/** A fresh copy of a template's one element. */
export function stamp(templateId) {
  return document.getElementById(templateId).content.firstElementChild.cloneNode(true);
}

export function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = clean(text);
  return element;
}

/** Read out politely: whole sentences, never tokens. */
export function announce(text) {
  document.getElementById("announcer").append(make("p", "", text));
}

export function quietAnnouncer() {
  document.getElementById("announcer").replaceChildren();
}

/** The address of a passage within this page, and of a sentence in it. */
export function passageHash(documentId, passageOrdinal, sentence = "") {
  const mark = sentence ? `/${encodeURIComponent(sentence)}` : "";
  const place = passageOrdinal === undefined ? "" : `/${passageOrdinal}${mark}`;
  return `#document/${encodeURIComponent(documentId)}${place}`;
}
