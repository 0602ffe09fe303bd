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

// A theme is chosen in place: what is typed on the page stays, and the next page comes in it.
for (const form of document.querySelectorAll("[data-theme-switch]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = event.submitter;
    const sent = new FormData(form, chosen);
    document.documentElement.dataset.theme = chosen.value;
    for (const choice of form.querySelectorAll("button")) choice.setAttribute("aria-pressed", choice === chosen);
    // Whoever goes on at once has chosen all the same.
    fetch(form.action, { method: "POST", body: sent, redirect: "manual", keepalive: true }).catch(() => {});
  });
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

// Passkeys are asked for by a script; where it could not work their buttons stay hidden.
for (const part of document.querySelectorAll(window.PublicKeyCredential ? "[data-passkeys]" : "[data-no-passkeys]")) {
  part.hidden = false;
}
document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const notice = document.querySelector("[data-passkey-failed]");
  if (notice) notice.hidden = false;
});

// Who has chosen no time zone is offered that of the browser.
for (const button of document.querySelectorAll("[data-use-time-zone]")) {
  const select = document.getElementById(button.dataset.useTimeZone);
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (select.value === zone || ![...select.options].some((option) => option.value === zone)) continue;
  button.querySelector("[data-zone]").textContent = zone.replaceAll("_", " ");
  button.hidden = false;
  button.addEventListener("click", () => {
    select.value = zone;
    button.hidden = true;
    select.focus();
  });
}

// After a refused form the reader starts at what went wrong.
document.getElementById("error-summary")?.focus();
