// Numbers, times and names as the page's language writes them.

import { language, t } from "./texts.js";

/** As `language`, for days and times: where English is written, the day comes before the month. */
export const PLACE = { en: "en-GB" }[language] ?? language;
const MEDIA_TYPES = {
  "application/pdf": "PDF",
  "application/msword": "Word",
  "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "Word",
  "application/vnd.openxmlformats-officedocument.presentationml.presentation": "PowerPoint",
  "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "Excel",
  "application/json": "JSON",
  "text/csv": "CSV",
  "text/html": "HTML",
  "text/markdown": "Markdown",
  "text/plain": t("unit.text"),
  "message/rfc822": t("unit.mail"),
};

export function mediaType(type) {
  const name = String(type ?? "").split(";")[0];
  return MEDIA_TYPES[name] ?? name.split("/").pop();
}

export function bytes(count) {
  if (count < 1000) return t("unit.bytes", { n: count });
  if (count < 1e6) return `${Math.round(count / 1000)} kB`;
  return `${(count / 1e6).toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 })} MB`;
}

export function seconds(count) {
  if (count < 90) return `${Math.max(1, Math.round(count))} s`;
  if (count < 5400) return `${Math.round(count / 60)} min`;
  return `${Math.round(count / 3600)} h`;
}

/** The time alone for today, the day with it otherwise. */
export function moment(value) {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return "";
  const today = date.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return today
    ? date.toLocaleTimeString(PLACE, { ...time, second: "2-digit" })
    : date.toLocaleString(PLACE, { ...time, day: "numeric", month: "short", year: "numeric" });
}

/** Join what is there with middle dots. */
export function joined(...parts) {
  return parts.filter(Boolean).join(" · ");
}
