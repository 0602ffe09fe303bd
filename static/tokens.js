// The pages of tokens are complete without this file; it only makes them quicker.
"use strict";

// A list: tick every box, and say how many are ticked.
for (const all of document.querySelectorAll("[data-tick-all]")) {
  const boxes = [...document.querySelectorAll(`input[type="checkbox"][form="${all.dataset.tickAll}"]`)];
  const box = all.querySelector("input");
  const update = () => {
    const ticked = boxes.filter((each) => each.checked).length;
    box.checked = ticked === boxes.length;
    box.indeterminate = ticked > 0 && !box.checked;
  };
  all.hidden = boxes.length === 0;
  box.addEventListener("change", () => {
    for (const each of boxes) each.checked = box.checked;
    update();
  });
  for (const each of boxes) each.addEventListener("change", update);
  addEventListener("pageshow", update);
}

// A new token: what it would be allowed to do follows what is chosen.
const preview = document.getElementById("preview");
if (preview) {
  const form = preview.closest("form");
  const said = document.getElementById("preview-said");
  const review = form.querySelector("[data-review]");
  let timer;
  let asked;

  const refresh = async () => {
    asked?.abort();
    asked = new AbortController();
    const body = new URLSearchParams([...new FormData(form)].filter(([name]) => name !== "nonce"));
    body.set("step", "preview");
    preview.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(form.dataset.preview, { method: "POST", body, signal: asked.signal, redirect: "error" });
      if (!answer.ok) throw new Error(answer.statusText);
      preview.innerHTML = await answer.text();
      said.textContent = preview.querySelector("[data-said]")?.textContent ?? "";
      preview.removeAttribute("aria-busy");
    } catch (error) {
      // What was there may be wrong by now: "Review" says it as it is.
      if (error.name !== "AbortError") {
        preview.removeAttribute("aria-busy");
        preview.replaceChildren(form.querySelector("[data-stale]").content.cloneNode(true));
        review.hidden = false;
      }
    }
  };

  review.hidden = true;
  form.addEventListener("input", (event) => {
    if (["name", "description"].includes(event.target.name)) return;
    clearTimeout(timer);
    timer = setTimeout(refresh, 250);
  });
  // The browser may have kept what was chosen before.
  addEventListener("pageshow", () => { if (form.querySelector("[name=roles]:checked")) refresh(); });
}

// A new secret: the file is made from memory, so that the browser's list of downloads does not keep it.
for (const link of document.querySelectorAll("a[data-download]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const text = decodeURIComponent(link.href.slice(link.href.indexOf(",") + 1));
    const file = document.createElement("a");
    file.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    file.download = link.download;
    file.click();
    setTimeout(() => URL.revokeObjectURL(file.href), 10_000);
  });
}

// A new secret: what the API answers to it. No cookie goes with it, so it is the secret alone that is asked about.
for (const part of document.querySelectorAll("[data-try]")) {
  const field = (name) => document.querySelector(`[data-field="${name}"]`).textContent;
  const status = part.querySelector("[data-try-status]");
  const box = part.querySelector("[data-try-answer]");
  const ask = (address, options) => fetch(address, { ...options, credentials: "omit", cache: "no-store" });

  const accessToken = async () => {
    if (part.dataset.kind === "access_token") return [field("access_token"), null];
    const answer = await ask(part.dataset.tokenEndpoint, {
      method: "POST",
      headers: { Authorization: `Basic ${btoa(`${field("client_id")}:${field("client_secret")}`)}` },
      body: new URLSearchParams({ grant_type: "client_credentials" }),
    });
    return answer.ok ? [(await answer.json()).access_token, null] : [null, answer];
  };

  part.hidden = false;
  part.querySelector("[data-try-now]").addEventListener("click", async () => {
    status.textContent = part.dataset.asking;
    try {
      const [token, refused] = await accessToken();
      const answer = refused ?? await ask(part.dataset.self, { headers: { Authorization: `Bearer ${token}` } });
      box.querySelector("code").textContent = JSON.stringify(await answer.json(), null, 2);
      box.hidden = false;
      status.textContent = part.dataset.answered.replace("{status}", answer.status);
    } catch {
      status.textContent = part.dataset.unreachable;
    }
  });
}
