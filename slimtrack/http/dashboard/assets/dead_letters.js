// A box that ticks all others of its page.
"use strict";
(() => {
  const all = document.getElementById("all");
  if (!all) return;
  const boxes = [...document.querySelectorAll("input[name=id]")];
  const show = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    all.checked = ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  };
  all.labels[0].hidden = false;
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; });
  for (const box of boxes) box.addEventListener("change", show);
  show(); // a browser may remember what was ticked
})();
