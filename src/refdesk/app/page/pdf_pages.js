// The pages of a PDF as they look, each drawn by the service when it comes into view, with the cited sentence marked.

import { documentPath, request, requestJson } from "./api.js";
import { make } from "./page.js";
import { t } from "./texts.js";

const WIDTH_STEP = 200; // so that about the same width finds the page that was drawn before
const WIDTH_MAX = 2000;
const AHEAD = "600px";

/** Draws into `root`. Rejects when the page that is looked for cannot be drawn; others say so in their place. */
export async function drawPdf(root, shown, { page, used }) {
  const count = Math.max(1, ...shown.passages.map((passage) => passage.page ?? 1));
  const first = page ?? 1;
  const figures = Array.from({ length: count }, (_, place) => figure(place + 1));
  root.replaceChildren(...figures);
  await drawPage(figures[first - 1], shown, first);
  if (used) await mark(figures[first - 1], shown, first, used).catch(() => {}); // the page is there all the same
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      drawPage(target, shown, Number(target.dataset.page)).catch((problem) => target.append(make("p", "failure", problem.message)));
    }
  }, { root, rootMargin: AHEAD });
  figures[first - 1].scrollIntoView({ block: "start", behavior: "instant" });
  for (const each of figures) if (!each.dataset.drawn) observer.observe(each);
  return figures[first - 1];
}

function figure(number) {
  const element = make("figure", "pdf-page");
  element.dataset.page = number;
  element.dataset.testid = "pdf-page";
  return element;
}

async function drawPage(element, shown, number) {
  if (element.dataset.drawn) return;
  element.dataset.drawn = "true";
  const wanted = Math.min(WIDTH_MAX, element.clientWidth * devicePixelRatio || WIDTH_MAX);
  const width = Math.ceil(wanted / WIDTH_STEP) * WIDTH_STEP;
  const response = await request(`${pagePath(shown, number)}.png?width=${width}&version=${shown.version}`);
  const picture = await createImageBitmap(await response.blob());
  const canvas = make("canvas", "");
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("2d").drawImage(picture, 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", t("reader.page", { n: number }));
  picture.close();
  element.prepend(canvas);
}

async function mark(element, shown, number, text) {
  const query = new URLSearchParams({ text, version: shown.version });
  const { marks } = await requestJson(`${pagePath(shown, number)}/marks?${query}`);
  for (const { left, top, width, height } of marks) {
    const box = make("div", "pdf-mark");
    box.dataset.testid = "pdf-mark";
    Object.assign(box.style, { left: share(left), top: share(top), width: share(width), height: share(height) });
    element.append(box);
  }
}

function share(value) {
  return `${value * 100}%`;
}

function pagePath(shown, number) {
  return documentPath(shown.document_id, `/pages/${number}`);
}
