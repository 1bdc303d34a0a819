// What the syncs of folders came to: the newest receipt of each source, its files by name when it is opened.

import { requestJson } from "./api.js";
import { joined, moment } from "./format.js";
import { make, part, stamp } from "./page.js";
import { write, writeOrHide } from "./text.js";
import { language, t } from "./texts.js";

const PATH = "/api/documents/syncs";
const SHOWN_MAX = 20;
const ENDS = ["added", "updated", "unchanged", "skipped", "failed", "deleted", "kept"];

/** Draw the receipts above the documents; nothing where there are none, or this desk keeps none. */
export async function drawSyncs() {
  const { syncs } = await requestJson(`${PATH}?limit=${SHOWN_MAX}`).catch(() => ({ syncs: [] }));
  document.getElementById("syncs").replaceChildren(...syncs.map(row));
}

function row(receipt) {
  const element = stamp("sync-template");
  const { counts } = receipt;
  write(part(element, "source"), receipt.source);
  write(part(element, "about"), joined(t(`sync_state.${receipt.state}`), moment(receipt.heard_at), ...ends(counts)));
  element.classList.toggle("is-failed", counts.failed > 0 || receipt.state === "refused" || receipt.state === "stopped");
  element.addEventListener("toggle", () => element.open && open(receipt.id, element));
  return element;
}

function ends(counts) {
  return ENDS.filter((end) => counts[end] > 0).map((end) => `${counts[end].toLocaleString(language)} ${t(`outcome.${end}`)}`);
}

async function open(id, element) {
  const receipt = await requestJson(`${PATH}/${id}`).catch((problem) => ({ problem: problem.message, entries: [], indexing: null }));
  const failures = (receipt.indexing?.failures ?? []).map((failure) => ({ ...failure, outcome: "not_searchable" }));
  writeOrHide(part(element, "problem"), receipt.problem);
  write(part(element, "sum"), receipt.counts ? sum(receipt) : "");
  const notes = (receipt.indexing?.notes ?? []).flatMap(({ path, notes }) => notes.map(({ text }) => ({ path, outcome: "note", reason: text })));
  part(element, "entries").replaceChildren(...[...failures, ...notes, ...receipt.entries].map(entry));
  const more = receipt.entries_left_off;
  writeOrHide(part(element, "more"), more ? t("syncs.more", { n: more }) : "");
}

function sum({ counts, indexing }) {
  return joined(
    t("syncs.found", { n: counts.found }),
    counts.gone > 0 && t("syncs.gone", { n: counts.gone }),
    indexing && t("syncs.now", indexing),
  );
}

function entry({ path, outcome, reason }) {
  const item = make("li", outcome === "failed" || outcome === "not_searchable" ? "failure" : "");
  item.append(make("b", "", t(`outcome.${outcome}`)), " ", make("span", "", reason ? `${path}: ${reason}` : path));
  return item;
}
