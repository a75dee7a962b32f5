// What every page needs: times in the reader's zone, the token for what changes something, and what happens live.
"use strict";
(() => {
  // The page's language, as it is written where the reader is.
  const page = document.documentElement.lang.split("-")[0];
  const language = navigator.languages.find((each) => each.split("-")[0] === page) ?? document.documentElement.lang;
  document.documentElement.dataset.locale = language;
  const format = (options) => new Intl.DateTimeFormat(language, options);
  const minutes = format({ hour: "2-digit", minute: "2-digit" });
  const shapes = {
    moment: format({ dateStyle: "medium", timeStyle: "medium" }),
    clock: format({ timeStyle: "medium" }),
    short: format({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" }),
    day: format({ weekday: "long", day: "numeric", month: "long", hour: "2-digit", minute: "2-digit" }),
  };
  const ago = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  const midnight = (moment) => new Date(moment).setHours(0, 0, 0, 0);
  const days = (moment, since) => Math.round((midnight(moment) - midnight(since)) / 86400000);
  // How a moment is told: what the reader knows already, like today's date, is left out.
  const tell = (moment, shape, before) => {
    const day = days(moment, Date.now());
    if (shape === "ago") {
      const seconds = (moment - Date.now()) / 1000;
      const [unit, size] = units.find(([, each]) => Math.abs(seconds) >= each) || units[3];
      return ago.format(Math.round(seconds / size), unit);
    }
    if (shape === "day" && before && !days(moment, before)) return minutes.format(moment);
    if (shape === "day" && Math.abs(day) <= 1) return `${ago.format(day, "day")}, ${minutes.format(moment)}`;
    if (shape === "short" && !day) return shapes.clock.format(moment);
    if (shape === "short" && Math.abs(day) > 300) return shapes.moment.format(moment);
    return (shapes[shape] || shapes.moment).format(moment);
  };
  // The second of two times that belong together leaves out the day, if it is that of the first.
  const localize = (root) => {
    for (const each of root.querySelectorAll("time[datetime]")) {
      const before = each.parentNode.querySelector("time[datetime]");
      each.textContent = tell(new Date(each.dateTime), each.dataset.shape, before !== each && new Date(before.dateTime));
    }
  };
  localize(document);
  setInterval(() => {
    for (const each of document.querySelectorAll("time[data-shape=ago]")) each.textContent = tell(new Date(each.dateTime), "ago");
  }, 10000);
  document.addEventListener("htmx:afterSwap", (event) => localize(event.target.parentNode || document));
  document.addEventListener("pages:changed", (event) => localize(event.target));

  // On a narrow page the list of pages is longer than the page is wide.
  document.querySelector(".top [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

  const token = document.querySelector("meta[name=csrf-token]");
  document.addEventListener("htmx:configRequest", (event) => {
    if (token) event.detail.headers["X-CSRF-Token"] = token.content;
  });

  const said = document.getElementById("said");
  const say = (text) => {
    if (!said) return;
    said.textContent = text;
    said.hidden = !text;
  };
  document.addEventListener("htmx:responseError", (event) => {
    let detail = event.detail.xhr.statusText;
    try { detail = JSON.parse(event.detail.xhr.responseText).detail; } catch { /* it is no problem document */ }
    say(detail);
  });
  document.addEventListener("htmx:sendError", () => say(said && said.dataset.lost));

  // <body data-live="/dashboard/live/overview">: what comes is told to the page as an event named live, that nothing comes as one named away.
  // Only while the page is to be seen: a browser opens no more than six connections to a server.
  const place = document.body.dataset.live;
  let stream;
  let lost;
  let again;
  const heal = () => { clearTimeout(lost); lost = undefined; say(""); };
  const follow = () => {
    stream = new EventSource(place);
    stream.addEventListener("open", heal);
    stream.addEventListener("message", (event) => {
      heal();
      document.body.dispatchEvent(new CustomEvent("live", { detail: JSON.parse(event.data), bubbles: true }));
    });
    stream.addEventListener("away", () => {
      say(said && said.dataset.away);
      document.body.dispatchEvent(new CustomEvent("away", { bubbles: true }));
    });
    stream.addEventListener("error", () => {
      // After an answer like 503 the browser would not try again.
      if (stream.readyState === EventSource.CLOSED) again = setTimeout(follow, 5000);
      lost = lost || setTimeout(() => {
        say(said && said.dataset.lost);
        document.body.dispatchEvent(new CustomEvent("away", { bubbles: true }));
      }, 4000);
    });
  };
  const leave = () => {
    heal();
    clearTimeout(again);
    stream?.close();
    stream = undefined;
  };
  if (place) {
    if (!document.hidden) follow();
    document.addEventListener("visibilitychange", () => (document.hidden ? leave() : stream || follow()));
    addEventListener("pagehide", leave);
    addEventListener("pageshow", () => stream || document.hidden || follow());
  }
})();
