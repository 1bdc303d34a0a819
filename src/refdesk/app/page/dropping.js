// Files dropped anywhere on the page.

/** Take files dropped anywhere on the page. */
export function startDropping(onFiles) {
  const target = document.getElementById("drop-target");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const over = (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    target.hidden = false;
  };
  addEventListener("dragenter", over);
  addEventListener("dragover", over);
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) target.hidden = true; });
  addEventListener("drop", (event) => {
    target.hidden = true;
    if (!carriesFiles(event)) return;
    event.preventDefault();
    onFiles(droppedEntries(event.dataTransfer));
  });
}

/** What was dropped, folders too, as the browser's entries; where it has none, as files. They can only be asked for now. */
function droppedEntries(transfer) {
  return [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
}
