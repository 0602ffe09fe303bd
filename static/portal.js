// Every page is complete without this file; it only saves keystrokes.
"use strict";

// Copy buttons stay hidden where they could not work (no script, or no secure context).
if (navigator.clipboard) {
  const status = document.getElementById("copy-status");
  for (const button of document.querySelectorAll("[data-copy]")) {
    const label = button.querySelector("[data-copy-label]");
    const before = label.textContent;
    let timer;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
      } catch {
        // The browser refused: select the text, so that the keyboard can copy it.
        window.getSelection().selectAllChildren(source);
        return;
      }
      label.textContent = button.dataset.copied;
      // Emptied first: a live region that is set to what it says already stays silent.
      status.textContent = "";
      setTimeout(() => { status.textContent = button.dataset.announce; }, 50);
      clearTimeout(timer);
      timer = setTimeout(() => { label.textContent = before; }, 2000);
    });
  }
}

// Menus are <details>; with a script they also close as menus do.
const openMenus = () => document.querySelectorAll("details.menu[open]");

document.addEventListener("click", (event) => {
  for (const menu of openMenus()) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of openMenus()) {
    menu.open = false;
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
  }
});

// After a refused form the reader starts at what went wrong.
document.getElementById("error-summary")?.focus();
