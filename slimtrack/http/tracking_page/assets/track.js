// Puts the page that there is now in the place of what is shown, when there is news, and tells what it says.
"use strict";
(() => {
  const news = document.getElementById("news");
  const shown = () => document.getElementById("parcel");
  const live = () => {
    const how = document.getElementById("how");
    if (how) how.textContent = how.dataset.live;
  };
  let asked = false;
  let again = false;
  let last;
  const renew = async () => {
    if (asked) {
      again = true;
      return;
    }
    asked = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const parcel = fresh.getElementById("parcel");
      if (!parcel || parcel.outerHTML === last) return;
      last = parcel.outerHTML;
      const before = shown().querySelector("h1").textContent;
      shown().replaceWith(document.adoptNode(parcel));
      document.title = fresh.title;
      live();
      shown().dispatchEvent(new CustomEvent("pages:changed", { bubbles: true }));
      const after = shown().querySelector("h1").textContent;
      if (after !== before) news.textContent = after;
    } catch { /* the connection is lost; pages.js says so */ } finally {
      asked = false;
      if (again) {
        again = false;
        renew();
      }
    }
  };
  live();
  document.body.addEventListener("live", (event) => {
    if (event.detail !== Number(shown().dataset.version)) renew();
  });
  // It may become late without anything having happened.
  setInterval(() => {
    if (!document.hidden && !("final" in shown().dataset)) renew();
  }, 60000);
})();
