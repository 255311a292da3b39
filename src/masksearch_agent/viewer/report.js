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

const hoverData = JSON.parse(document.getElementById("hover-data").textContent);
for (const svg of document.querySelectorAll("svg[data-chart]")) {
  const series = hoverData[svg.dataset.chart];
  const cursor = svg.querySelector(".cursor"), tip = svg.parentElement.querySelector(".tip");
  const show = value => Number(value.toPrecision(4)).toString();
  const nearest = (points, x) => points.reduce((a, b) => Math.abs(b[0] - x) < Math.abs(a[0] - x) ? b : a);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    const found = series.map(entry => nearest(entry.points, x));
    const at = nearest(found, x);
    cursor.setAttribute("x1", at[0]);
    cursor.setAttribute("x2", at[0]);
    cursor.setAttribute("visibility", "visible");
    tip.textContent = series.map((entry, index) =>
      "step " + found[index][2] + "  " + entry.stage + " " + show(found[index][3])).join("\n");
    const isRight = at[0] > svg.viewBox.baseVal.width / 2;
    const left = box.left - svg.parentElement.getBoundingClientRect().left + at[0] / svg.viewBox.baseVal.width * box.width;
    tip.style.left = (isRight ? left - tip.offsetWidth - 10 : left + 10) + "px";
  });
  svg.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    tip.textContent = "";
  });
}
