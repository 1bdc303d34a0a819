// A small notice to whoever asked in vain: a document that may answer it is here now.

import { request, requestJson } from "./api.js";
import { make, passageHash } from "./page.js";
import { t } from "./texts.js";

const PATH = "/api/gaps";

/** Show the notices, if there are any, where questions are asked. */
export async function showAnsweredGaps() {
  const { answered } = await requestJson(`${PATH}/mine`).catch(() => ({ answered: [] }));
  document.getElementById("welcome").append(...answered.map(notice));
}

function notice(one) {
  const element = make("p", "notice", `${t("gap.asked", { question: one.question })} `);
  element.dataset.testid = "answered-gap";
  const link = make("a", "", one.title);
  link.href = passageHash(one.document_id);
  const away = make("button", "quiet", t("gap.away"));
  away.type = "button";
  away.addEventListener("click", async () => {
    await request(`${PATH}/${one.id}/seen`, { method: "POST" }).catch(() => {});
    element.remove();
  });
  element.append(link, " ", away);
  return element;
}
