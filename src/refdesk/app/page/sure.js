// Asks before something that costs, or cannot be taken back: what it does, and a way out.

import { make } from "./page.js";
import { t } from "./texts.js";

/** Whether it is to be done; `yes` is what the button that does it says. */
export function isSure({ title, text, yes, danger = false }) {
  const dialog = make("dialog", "small-dialog");
  const form = make("form", "");
  const actions = make("div", "dialog-actions");
  const no = choice("no", "", t("sure.no"));
  form.method = "dialog";
  no.autofocus = true;
  actions.append(no, choice("yes", danger ? "danger" : "primary", yes));
  form.append(named("h2", "title", title, dialog), named("p", "description", text, dialog), actions);
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    }, { once: true });
  });
}

function choice(value, className, text) {
  const button = make("button", className, text);
  button.value = value;
  button.dataset.testid = `sure-${value}`;
  return button;
}

/** An element that tells what the dialog is: its title, or its description. */
function named(tag, role, text, dialog) {
  const element = make(tag, "", text);
  element.id = `sure-${role}`;
  dialog.setAttribute(role === "title" ? "aria-labelledby" : "aria-describedby", element.id);
  return element;
}
