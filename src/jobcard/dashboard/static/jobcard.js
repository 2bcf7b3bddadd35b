// What every page does beyond reading. Without it the page still reads; nothing here is needed to act.
"use strict";

// Parts refresh themselves only while somebody looks, and not under a selection or an open form of theirs.
function isInUse(part) {
  const selection = document.getSelection();
  const selects = selection && !selection.isCollapsed && part.contains(selection.anchorNode);
  const edits = part.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), select, textarea");
  // Who is choosing rows wants them to stay where they are.
  return selects || edits || part.querySelector("input[type=checkbox]:checked") !== null;
}

document.addEventListener("htmx:config:request", (event) => {
  const part = event.target;
  const refreshes = (part.getAttribute("hx-trigger") || "").startsWith("every");
  if (refreshes && (document.hidden || isInUse(part))) event.preventDefault();
});

// One box for all the boxes of its form.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-all]")) return;
  for (const box of event.target.form.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
});

// Whoever is not signed in any more is sent to do so; whoever sees old figures is told.
function tell(isLate) {
  const late = document.getElementById("late");
  if (late) late.hidden = !isLate;
}

document.addEventListener("htmx:response:error", (event) => {
  const response = event.detail.ctx && event.detail.ctx.response;
  if (response && (response.status || (response.raw && response.raw.status)) === 401) window.location.reload();
  tell(true);
});
document.addEventListener("htmx:error", () => tell(true));
document.addEventListener("htmx:after:swap", () => tell(false));
