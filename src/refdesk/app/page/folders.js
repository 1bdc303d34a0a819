// What is inside a dropped folder, with the path below it.

import { t } from "./texts.js";

const FILES_MAX = 2000; // of one drop: more belong into a sync
const HIDDEN = /^\./;

/** All files of these entries: `{file, path}`, the hidden ones left out. Rejects when there are too many for a page. */
export async function filesBelow(entries) {
  const found = [];
  const ahead = [...entries];
  while (ahead.length > 0) {
    const entry = ahead.shift();
    if (HIDDEN.test(entry.name)) continue;
    if (entry.isDirectory) ahead.push(...(await childrenOf(entry)));
    else found.push({ file: await fileOf(entry), path: entry.fullPath.replace(/^\/+/, "") });
    if (found.length > FILES_MAX) throw new Error(t("documents.too_many", { n: FILES_MAX }));
  }
  return found;
}

async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) { // a reader gives a hundred at a time
    const some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
    if (some.length === 0) return children;
    children.push(...some);
  }
}

function fileOf(entry) {
  return new Promise((resolve, reject) => { entry.file(resolve, reject); });
}
