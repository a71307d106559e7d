// Has the server tell the page what changed, through one stream; where that fails, the page polls.
"use strict";
(() => {
  const { ergon } = window, { events, view } = document.body.dataset;
  if (!ergon || !events || !view || !window.EventSource) return;
  const main = () => document.getElementById("main");
  // How long a hidden page keeps its stream; after how many failures it polls, and then tries again.
  const HIDDEN = 10000, FAILURES_MAX = 3, TRY = 60000;
  let source = null, cursor = main() ? main().dataset.cursor : "", token = "";
  let failures = 0, beat = 15000, opening = 0, watchdog = 0, hiding = 0;

  const address = () => {
    const url = new URL(events, location.href);
    url.searchParams.set("view", view);
    if (cursor) url.searchParams.set("after", cursor);
    if (main() && main().dataset.revision) url.searchParams.set("since", main().dataset.revision);
    for (const [name, value] of new URLSearchParams(location.search))
      if (name === "after" || name === "before") url.searchParams.append("page." + name, value);
      else if (!["notice", "fragment", "since", "view"].includes(name) && value) url.searchParams.append(name, value);
    return url;
  };
  const close = () => {
    clearTimeout(watchdog);
    if (source) source.close();
    source = null;
    ergon.heard(false);
  };
  const later = (ms) => { clearTimeout(opening); opening = setTimeout(open, ms); };
  // Further apart at every failure, and never all at once.
  const failed = () => {
    close();
    failures += 1;
    if (failures >= FAILURES_MAX) { ergon.hold(false); later(TRY); }
    else later(1000 + Math.random() * (Math.min(30000, 1000 * 2 ** failures) - 1000));
  };
  const heard = (event) => {
    if (event.lastEventId) cursor = event.lastEventId;
    clearTimeout(watchdog);
    watchdog = setTimeout(failed, 2.5 * beat);
  };
  const open = () => {
    clearTimeout(opening);
    if (source || ergon.isPaused() || document.hidden || !main()) return;
    const stream = source = new EventSource(address());
    watchdog = setTimeout(failed, 2.5 * beat);
    const on = (name, does) => stream.addEventListener(name, (event) => {
      if (stream !== source) return;
      heard(event);
      does(event.data ? JSON.parse(event.data) : {});
    });
    let follows = false, stale = false;
    const fresh = () => ergon.heard(follows && !stale);
    on("hello", (hello) => {
      if (failures > 0) ergon.say("The monitor answers again.");
      failures = 0;
      token = hello.token;
      beat = hello.hb_s * 1000;
      follows = hello.mode === "live";
      ergon.clock(hello.server_ms);
      ergon.hold(true);
      fresh();
    });
    on("hb", (hb) => { ergon.clock(hb.server_ms); fresh(); });
    on("mode", (told) => { follows = told.mode === "live"; fresh(); });
    on("stale", (told) => { stale = true; ergon.say("The page cannot be read: " + told.reason); fresh(); });
    on("gone", () => ergon.say("What this page shows is not there any more."));
    on("reset", () => ergon.ask());
    on("fallback", () => { close(); ergon.hold(false); later(TRY); });
    on("bye", (told) => {
      if (told.reason === "auth") { close(); ergon.hold(false); ergon.say("Sign in again to go on."); later(TRY); }
      else if (told.reason === "age") { close(); later(Math.random() * 1000); }
      else failed();
    });
    stream.addEventListener("main", (event) => {
      if (stream !== source) return;
      heard(event);
      ergon.swap(event.data, token);
      stale = false;
      fresh();
    });
    stream.addEventListener("error", () => { if (stream === source) failed(); });
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hiding);
    if (document.hidden) hiding = setTimeout(() => { close(); clearTimeout(opening); }, HIDDEN);
    else open();
  });
  document.addEventListener("ergon:pause", () => { close(); clearTimeout(opening); });
  document.addEventListener("ergon:resume", open);
  document.addEventListener("ergon:back", open);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) open(); });
  ergon.hold(true);
  open();
})();
