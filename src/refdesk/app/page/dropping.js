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
    onFiles(droppedFiles(event.dataTransfer));
  });
}

/** The files among what was dropped; a folder cannot be sent as one. */
function droppedFiles(transfer) {
  const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory;
  return [...transfer.items].filter((item) => item.kind === "file" && !isFolder(item)).map((item) => item.getAsFile());
}
