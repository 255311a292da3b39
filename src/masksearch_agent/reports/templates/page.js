"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const isNumeric = [...body.rows].every(row => "value" in row.cells[column].dataset);
      const order = head.ariaSort ? (head.ariaSort === "ascending" ? "descending" : "ascending")
        : isNumeric ? "descending" : "ascending";
      const sign = order === "ascending" ? 1 : -1;
      // An unknown value ("") stays at the end in either order.
      const compare = (a, b) => !isNumeric ? sign * a.localeCompare(b)
        : a === "" || b === "" ? (a === "") - (b === "") : sign * (a - b);
      body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
      heads.forEach(other => { other.ariaSort = other === head ? order : null; });
    });
  });
}

const samples = [...document.querySelectorAll("details.sample")];
if (samples.length > 1) {
  const button = document.createElement("button");
  button.className = "open-all";
  const update = () => { button.textContent = samples.every(sample => sample.open) ? "Close all" : "Open all"; };
  button.addEventListener("click", () => {
    const isOpening = !samples.every(sample => sample.open);
    samples.forEach(sample => { sample.open = isOpening; });
  });
  samples.forEach(sample => sample.addEventListener("toggle", update));
  update();
  samples[0].before(button);
}

for (const figure of document.querySelectorAll("figure.chart")) {
  const tip = figure.querySelector(".tip");
  figure.addEventListener("pointermove", event => {
    const mark = event.target.closest("[aria-label][role=graphics-symbol]");
    tip.textContent = mark ? mark.getAttribute("aria-label").split("; ").join("\n") : "";
    if (!mark) return;
    const box = figure.getBoundingClientRect(), left = event.clientX - box.left;
    tip.style.left = (left > box.width / 2 ? left - tip.offsetWidth - 12 : left + 12) + "px";
    tip.style.top = (event.clientY - box.top + 12) + "px";
  });
  figure.addEventListener("pointerleave", () => { tip.textContent = ""; });
}
