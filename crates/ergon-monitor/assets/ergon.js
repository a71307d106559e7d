// Renews open pages in place, keeps ages going, and selects rows. Everything works without it.
"use strict";
(() => {
  const status = document.getElementById("status");
  const interval = Number(document.body.dataset.poll) || 5000;
  let paused = false, held = false, live = false, failures = 0, timer = 0, readAt = Date.now();

  const units = [[86400, " d"], [3600, " h"], [60, " m"], [1, " s"]];
  const span = (ms) => {
    const s = Math.max(0, ms) / 1000;
    if (s < 10) return s.toFixed(1) + " s";
    const at = units.findIndex(([size]) => s >= size);
    const [size, name] = units[at], next = units[at + 1];
    const rest = next && size > 1 ? " " + Math.floor((s % size) / next[0]) + next[1] : "";
    return Math.floor(s / size) + name + rest;
  };

  // The clock of the server, from the Date of its last answer: ages do not depend on that of the browser.
  let skew = 0;
  const now = () => Date.now() + skew;
  const ages = () => {
    for (const time of document.querySelectorAll("time[data-ago]")) {
      const gone = now() - Date.parse(time.dateTime);
      time.textContent = gone >= 0 ? span(gone) + " ago" : "in " + span(-gone);
    }
    for (const time of document.querySelectorAll("time[data-age]"))
      time.textContent = span(now() - Date.parse(time.dateTime));
    mode();
  };
  const mode = () => {
    const line = document.querySelector("[data-mode]");
    if (!line) return;
    const age = Date.now() - readAt, late = !live && age > interval + 3000;
    // What the server itself calls stale stays so, however new the answer is.
    const told = line.parentElement.querySelector("strong") !== null;
    line.textContent = paused ? "Paused, checked " + span(age) + " ago. "
      : late || told ? "Stale " + span(age) + ". "
      : live ? "Live. "
      : (held ? "Connecting" : "Polling " + line.dataset.interval) + ", checked " + span(age) + " ago. ";
    line.parentElement.classList.toggle("stale", told || (late && !paused));
    const button = document.createElement("button");
    button.type = "button";
    button.id = "pause";
    button.textContent = paused ? "Go on" : "Pause";
    const old = line.parentElement.querySelector("#pause");
    if (!old) line.after(button);
    else if (old.textContent !== button.textContent) old.textContent = button.textContent;
  };

  // Changes one tree into another, leaving alone what somebody is at: focus, text, open details, ticks.
  // Not node.id: a form with a field called "id" answers that field.
  const keyOf = (node) => (node.nodeType === 1 && node.getAttribute("id")) || null;
  const morph = (from, to) => {
    for (const { name } of [...from.attributes])
      if (!to.hasAttribute(name) && !(name === "open" && from.tagName === "DETAILS")) from.removeAttribute(name);
    for (const { name, value } of [...to.attributes])
      if (from.getAttribute(name) !== value && !(name === "open" && from.tagName === "DETAILS")) from.setAttribute(name, value);
    if (from.tagName === "INPUT" || from.tagName === "TEXTAREA" || from.tagName === "SELECT") return;
    const keyed = new Map(), kept = new Set();
    for (const child of to.children) if (keyOf(child)) kept.add(keyOf(child));
    // What goes, goes first: then what stays need not be moved, and keeps the focus.
    for (const child of [...from.children]) {
      const key = keyOf(child);
      if (key && key !== "pause" && !kept.has(key)) child.remove();
      else if (key) keyed.set(key, child);
    }
    let at = from.firstChild;
    for (const wanted of [...to.childNodes]) {
      const key = keyOf(wanted);
      let match = key ? keyed.get(key) : at;
      if (!key && match && (match.nodeType !== wanted.nodeType || match.nodeName !== wanted.nodeName || keyOf(match))) match = null;
      if (!match) {
        if (key && wanted.tagName === "TR") wanted.classList.add("changed");
        from.insertBefore(wanted, at);
        continue;
      }
      if (match !== at) from.insertBefore(match, at); else at = at.nextSibling;
      if (match.nodeType === 1) morph(match, wanted);
      else if (match.data !== wanted.data) match.data = wanted.data;
    }
    while (at) { const next = at.nextSibling; if (keyOf(at) !== "pause") at.remove(); at = next; }
  };

  // Shows a new state of the page; what it looks like where somebody is at work stays as it is.
  const swap = (text, token) => {
    const main = document.getElementById("main"), page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.getElementById("main"), at = document.activeElement;
    if (!main || !fresh) return;
    // Forms that all are sent alike are signed here.
    if (token) for (const field of fresh.querySelectorAll("input[name=_token]")) field.setAttribute("value", token);
    const range = at && typeof at.selectionStart === "number" ? [at.selectionStart, at.selectionEnd] : null;
    morph(main, fresh);
    if (at && at !== document.activeElement && at.isConnected) {
      at.focus({ preventScroll: true });
      if (range) at.setSelectionRange(...range);
    }
    count();
  };
  const count = () => {
    const line = document.getElementById("selected");
    if (line) line.textContent = document.querySelectorAll("input[name=ids]:checked").length + " selected";
  };

  const say = (text) => {
    const line = document.createElement("p");
    line.className = "notice";
    line.textContent = text;
    status.replaceChildren(line);
  };

  const later = (ms) => { clearTimeout(timer); if (!held) timer = setTimeout(poll, ms); };
  const poll = async () => {
    const main = document.getElementById("main");
    if (!main || !main.dataset.revision) return;
    if (paused || document.hidden) return later(interval);
    let wait = interval;
    try {
      const address = new URL(location.href);
      address.searchParams.delete("notice");
      address.searchParams.set("fragment", "1");
      address.searchParams.set("since", main.dataset.revision);
      const answer = await fetch(address, { headers: { accept: "text/html" }, cache: "no-store", redirect: "error" });
      const date = Date.parse(answer.headers.get("date"));
      if (date && Math.abs(date - now()) > 1500) skew = date - Date.now();
      wait = Number(answer.headers.get("x-ergon-next-poll")) || interval;
      if (answer.status === 200) {
        swap(await answer.text());
      } else if (answer.status !== 204) throw new Error(String(answer.status));
      readAt = Date.now();
      if (failures > 0) {
        say("The monitor answers again.");
        document.dispatchEvent(new Event("ergon:back"));
      }
      failures = 0;
    } catch {
      failures += 1;
      if (failures === 1) say("The monitor does not answer; trying again.");
      // Further apart at every failure, and never all at once.
      wait = Math.random() * Math.min(30000, interval * 2 ** failures) + 1000;
    }
    ages();
    later(wait);
  };

  document.addEventListener("click", (event) => {
    if (event.target.id !== "pause") return;
    paused = !paused;
    say(paused ? "Paused." : "Going on.");
    document.dispatchEvent(new Event(paused ? "ergon:pause" : "ergon:resume"));
    ages();
  });
  document.addEventListener("change", (event) => {
    if (event.target.dataset && event.target.dataset.all !== undefined)
      for (const box of document.querySelectorAll("input[name=ids]")) box.checked = event.target.checked;
    count();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) later(100); });
  addEventListener("pageshow", (event) => { if (event.persisted) later(100); });
  // For the stream, if there is one.
  window.ergon = {
    say, swap, span,
    // Polls, or leaves it to the stream.
    hold(value) { held = value; later(100); },
    // Polls once.
    ask: () => poll(),
    // The page is as new as can be, or the stream is over.
    heard(value) { live = value; if (value) readAt = Date.now(); ages(); },
    clock(ms) { skew = ms - Date.now(); },
    isPaused: () => paused,
  };
  setInterval(ages, 1000);
  ages();
  later(interval);
})();
