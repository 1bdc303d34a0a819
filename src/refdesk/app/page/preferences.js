// What a reader prefers for this page: its colours and its language. Kept in this browser.

import { chooseLanguage, chosenLanguage, LANGUAGES } from "./texts.js";

const THEME_STORED_AS = "refdesk.theme";
const THEMES = ["light", "dark"];

/** Wire the choices; whatever is chosen holds at once. */
export function startPreferences() {
  const theme = document.getElementById("theme");
  const stored = localStorage.getItem(THEME_STORED_AS);
  theme.value = THEMES.includes(stored) ? stored : "auto";
  drawTheme(theme.value);
  theme.addEventListener("change", () => {
    if (theme.value === "auto") localStorage.removeItem(THEME_STORED_AS);
    else localStorage.setItem(THEME_STORED_AS, theme.value);
    drawTheme(theme.value);
  });

  const languages = document.getElementById("language");
  for (const [name, label] of Object.entries(LANGUAGES)) languages.append(new Option(label, name));
  languages.value = chosenLanguage() ?? "auto";
  languages.addEventListener("change", () => {
    chooseLanguage(languages.value === "auto" ? null : languages.value);
    location.reload();
  });
}

function drawTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}
