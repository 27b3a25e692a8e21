// Keeps a page as new as the journal: the stream says what grew, the page is asked again, and what differs is put in.
"use strict";
(() => {
  const main = document.querySelector("main[data-heads]");
  const status = document.getElementById("live");
  if (!main || !window.EventSource) return;

  let heads = JSON.parse(main.dataset.heads);
  let source = null, asking = false, again = false;

  const headline = (from) => from.querySelector("[data-headline]")?.textContent.trim() ?? "";
  const behind = (now) => Object.keys(heads).some((name) => (now[name] ?? 0) > heads[name]);
  const clock = () => new Date().toISOString().slice(11, 19) + " UTC";

  function put(page) {
    const before = headline(document);
    for (const fresh of page.querySelectorAll("[data-live]")) {
      const old = document.getElementById(fresh.id);
      if (!old || old.innerHTML === fresh.innerHTML) continue;
      // what a person has opened or is reading with the keyboard stays where it is
      const open = [...old.querySelectorAll("details")].map((one) => one.open);
      const focus = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const left = [...old.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
      old.innerHTML = fresh.innerHTML;
      old.querySelectorAll("details").forEach((one, i) => { one.open = open[i] ?? false; });
      old.querySelectorAll(".scroll").forEach((one, i) => { one.scrollLeft = left[i] ?? 0; });
      if (focus) old.querySelector(`a[href="${CSS.escape(focus)}"]`)?.focus();
    }
    const after = headline(document);
    status.textContent = after !== before ? `${clock()}: ${after}` : `as of ${clock()}`;
    status.title = after;
  }

  async function ask() {
    if (asking) { again = true; return; }
    asking = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("main[data-heads]");
      heads = JSON.parse(fresh?.dataset.heads ?? "{}");
      put(page);
      if (fresh?.dataset.unread) setTimeout(ask, 700);
    } catch { /* the stream asks again when the server is back */ } finally {
      asking = false;
      if (again) { again = false; setTimeout(ask, 500); }
    }
  }

  function listen() {
    const model = main.dataset.model;
    source = new EventSource("/console/stream" + (model ? "?model=" + encodeURIComponent(model) : ""));
    source.addEventListener("heads", (event) => { if (behind(JSON.parse(event.data))) ask(); });
    source.addEventListener("open", () => { status.classList.add("on"); status.textContent ||= "live"; });
    source.addEventListener("error", () => { status.classList.remove("on"); });
  }

  document.addEventListener("visibilitychange", () => {
    source?.close();
    if (!document.hidden) { listen(); }
  });
  if (main.dataset.unread) setTimeout(ask, 700); // the server is still reading
  addEventListener("pagehide", () => source?.close());
  if (!document.hidden) listen();
})();
