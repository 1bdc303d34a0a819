// The index: how far its generations are, and comparing it with the documents, page by page.

import { requestJson } from "./api.js";
import { joined } from "./format.js";
import { announce, make } from "./page.js";
import { writeOrHide } from "./text.js";
import { t } from "./texts.js";

const GENERATIONS = "/api/index/generations";
const RECONCILE = "/api/index/reconcile";

export class IndexCare {
  #list = document.getElementById("operations-generations");
  #compare = document.getElementById("operations-compare");
  #mend = document.getElementById("operations-mend");
  #stop = document.getElementById("operations-stop");
  #going = null;

  start() {
    this.#compare.addEventListener("click", () => this.#go({ dryRun: true }));
    this.#mend.addEventListener("click", () => this.#go({ dryRun: false }));
    this.#stop.addEventListener("click", () => this.#going?.abort());
  }

  async enter() {
    const { generations } = await requestJson(GENERATIONS).catch(() => ({ generations: [] }));
    this.#list.replaceChildren(...generations.map((one) => make("li", "", described(one))));
  }

  async #go({ dryRun }) {
    this.#busy(new AbortController());
    const sum = { checked: 0, drift: 0, repaired: 0 };
    try {
      for (let cursor = null; ;) {
        const json = { dry_run: dryRun, ...(cursor ? { cursor } : {}) };
        const step = await requestJson(RECONCILE, { method: "POST", json, signal: this.#going.signal });
        sum.checked += step.checked;
        sum.drift += step.drift.length;
        sum.repaired += step.repaired;
        say(t("index.so_far", { sum: told(sum, dryRun) }));
        cursor = step.next_cursor;
        if (!cursor) break;
      }
      say(t("index.done", { sum: told(sum, dryRun) }));
      announce(t("index.done", { sum: told(sum, dryRun) }));
    } catch (refusal) {
      say(refusal.name === "AbortError" ? t("index.stopped", { sum: told(sum, dryRun) }) : refusal.message);
    }
    this.#busy(null);
    await this.enter();
  }

  #busy(going) {
    this.#going = going;
    this.#compare.disabled = this.#mend.disabled = Boolean(going);
    this.#stop.hidden = !going;
  }
}

function say(text) {
  writeOrHide(document.getElementById("operations-care"), text);
}

function told({ checked, drift, repaired }, dryRun) {
  return joined(t("index.compared", { n: checked }), t("index.differ", { n: drift }), !dryRun && t("index.mended", { n: repaired }));
}

function described(one) {
  const behind = one.documents_behind ?? 0;
  const state = one.active ? t("index.searched") : behind ? t("index.behind", { n: behind }) : t("index.ready");
  return joined(t("index.generation", { id: String(one.id) }), one.model, t("documents.count", { n: one.documents }), t("index.chunks", { n: one.chunks }), state, one.problem);
}
