// The index as it is cared for: its generations, and comparing it with the documents, page by page.

import { requestJson } from "./api.js";
import { joined } from "./format.js";
import { Generations } from "./generations.js";
import { may } from "./me.js";
import { announce } from "./page.js";
import { isSure } from "./sure.js";
import { writeOrHide } from "./text.js";
import { t } from "./texts.js";

const RECONCILE = "/api/index/reconcile";

export class IndexCare {
  #generations = new Generations();
  #compare = document.getElementById("operations-compare");
  #mend = document.getElementById("operations-mend");
  #stop = document.getElementById("operations-stop");
  #progress = document.getElementById("operations-compared");
  #going = null;
  #shown = false;

  start() {
    this.#generations.start();
    this.#compare.addEventListener("click", () => this.#go({ dryRun: true }));
    this.#mend.addEventListener("click", async () => {
      if (await isSure({ title: t("index.mend_title"), text: t("index.mend_text"), yes: t("operations.mend") })) this.#go({ dryRun: false });
    });
    this.#stop.addEventListener("click", () => this.#going?.abort());
  }

  async enter() {
    this.#shown = true;
    const isManaged = await may("index.manage");
    document.getElementById("operations-index").hidden = !isManaged;
    if (isManaged && this.#shown) await this.#generations.enter();
  }

  leave() {
    this.#shown = false;
    this.#generations.leave();
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
        this.#progress.value = sum.checked;
        cursor = step.next_cursor;
        if (!cursor) break;
      }
      say(t("index.done", { sum: told(sum, dryRun) }));
      announce(t("index.done", { sum: told(sum, dryRun) }));
    } catch (refusal) {
      say(refusal.name === "AbortError" ? t("index.stopped", { sum: told(sum, dryRun) }) : refusal.message);
    }
    this.#busy(null);
  }

  #busy(going) {
    this.#going = going;
    this.#compare.disabled = this.#mend.disabled = Boolean(going);
    this.#stop.hidden = this.#progress.hidden = !going;
    this.#progress.max = this.#generations.documents || 1;
    this.#progress.value = 0;
  }
}

function say(text) {
  writeOrHide(document.getElementById("operations-care"), text);
}

function told({ checked, drift, repaired }, dryRun) {
  return joined(t("index.compared", { n: checked }), t("index.differ", { n: drift }), !dryRun && t("index.mended", { n: repaired }));
}
