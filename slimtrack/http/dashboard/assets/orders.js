// Orders: times are typed in the reader's zone; an order is shown anew whenever there is more to tell.
"use strict";
(() => {
  // Without this script they are in UTC, as the labels say.
  const inZone = (root) => {
    for (const input of root.querySelectorAll("input[data-zoned]")) {
      const label = input.labels[0].firstChild;
      label.textContent = label.textContent.replace(" (UTC)", "");
      const given = input.dataset.zoned;
      const moment = new Date(/[zZ]|[+-]\d\d:\d\d$/.test(given) ? given : `${given}Z`);
      if (isNaN(moment)) continue;
      input.value = new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
    }
  };
  inZone(document);
  document.addEventListener("formdata", ({ target, formData }) => {
    for (const input of target.querySelectorAll("input[data-zoned]")) {
      if (input.value) formData.set(input.name, new Date(input.value).toISOString());
    }
    if (target.method !== "get") return;
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });

  const shown = () => document.getElementById("order");
  if (!shown()) return;
  const announced = document.getElementById("announced");
  let latest = shown().dataset.revision;
  let isAsking = false;

  const replace = (id, page) => {
    const open = [...document.querySelectorAll(`#${id} details[open]`)].map((each) => each.id);
    const focused = document.activeElement.id;
    const fresh = page.getElementById(id);
    document.getElementById(id).replaceWith(fresh);
    for (const each of open) document.getElementById(each)?.setAttribute("open", "");
    if (focused && document.activeElement.id !== focused) document.getElementById(focused)?.focus();
    inZone(fresh);
    fresh.dispatchEvent(new CustomEvent("pages:changed", { bubbles: true }));
  };
  const ask = async () => {
    const answer = await fetch(shown().dataset.place, { headers: { "HX-Request": "true", Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    replace("order", page);
    // Not while somebody writes: the version that they have seen has to go with it.
    if (!document.querySelector("#changes details[open]")) replace("changes", page);
    const said = shown().dataset.said;
    if (announced.textContent !== said) announced.textContent = said;
  };
  document.body.addEventListener("live", async ({ detail }) => {
    latest = detail;
    if (isAsking || latest === shown().dataset.revision) return;
    isAsking = true;
    let asked;
    try {
      do {
        asked = latest;
        await ask();
      } while (asked !== latest);
    } catch { /* the connection is lost: the stream says so, and tells all again once it is back */ }
    isAsking = false;
  });
})();
