// A console shows its last line; lines of the log that were opened stay open when new ones come.
"use strict";
(() => {
  const end = (console) => { console.scrollTop = console.scrollHeight; };
  let open = [];
  let follows = true;
  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("details.record[open]")].map((each) => each.id);
    const console = document.getElementById("console");
    follows = !console || console.scrollHeight - console.scrollTop - console.clientHeight < 40;
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) {
      const record = document.getElementById(id);
      if (record) record.open = true;
    }
    const console = document.getElementById("console");
    if (console && follows) end(console);
  });
  const console = document.getElementById("console");
  if (console) end(console);
})();
