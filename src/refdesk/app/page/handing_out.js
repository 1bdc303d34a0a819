// What leaves the page: into the clipboard, or as a file.

import { clean } from "./text.js";

/** Copy a text; also where the desk is on plain http, which has no clipboard. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("copy");
}

/** Offer a file under this name. */
export function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = clean(name);
  link.click();
}

export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  save(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
