// Adding files: a short queue, progress per file, and what went wrong in plain words.

import { upload } from "./api.js";
import { bytes } from "./format.js";
import { part, stamp } from "./page.js";
import { write } from "./text.js";

const AT_ONCE = 2;

export class Uploads {
  #list = document.getElementById("uploads");
  #waiting = [];
  #running = 0;
  #onAdded;

  /** `onAdded` gets each document as the service returned it. */
  constructor(onAdded) {
    this.#onAdded = onAdded;
  }

  add(files) {
    for (const file of files) this.#enqueue(file);
  }

  #enqueue(file) {
    const row = stamp("upload-template");
    write(part(row, "name"), file.name);
    write(part(row, "note"), "waiting");
    part(row, "dismiss").addEventListener("click", () => row.remove());
    part(row, "again").addEventListener("click", () => this.#wait({ file, row }));
    this.#list.append(row);
    this.#wait({ file, row });
  }

  #wait(entry) {
    drawState(entry.row, { failed: false });
    this.#waiting.push(entry);
    this.#next();
  }

  #next() {
    if (this.#running >= AT_ONCE || this.#waiting.length === 0) return;
    this.#running += 1;
    this.#send(this.#waiting.shift()).finally(() => {
      this.#running -= 1;
      this.#next();
    });
  }

  async #send({ file, row }) {
    try {
      const added = await upload("/api/documents", file, (share) => drawProgress(row, share, file.size));
      row.remove();
      this.#onAdded({ title: file.name, content_bytes: file.size, media_type: file.type, ...added });
    } catch (problem) {
      drawState(row, { failed: true });
      write(part(row, "note"), problem.message);
    }
  }
}

function drawProgress(row, share, size) {
  part(row, "progress").value = share;
  write(part(row, "note"), share < 1 ? `${Math.round(share * 100)} % of ${bytes(size)}` : "received, checking");
}

function drawState(row, { failed }) {
  row.classList.toggle("has-failed", failed);
  part(row, "progress").hidden = failed;
  part(row, "again").hidden = !failed;
  part(row, "dismiss").hidden = !failed;
}
