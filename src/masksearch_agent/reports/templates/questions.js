"use strict";
{
  const PAGE = 100;
  const table = document.getElementById("question-table"), filters = document.getElementById("question-filters");
  const more = document.querySelector(".more"), count = filters.querySelector("output");
  const data = JSON.parse(document.getElementById("questions").textContent);
  const at = Object.fromEntries(data.fields.map((name, index) => [name, index]));
  const heads = [...table.tHead.rows[0].cells];
  const columns = heads.map(head => ({ name: head.dataset.field, digits: head.dataset.digits }));
  const numbers = new Map();
  const format = (value, digits) => {
    if (!numbers.has(digits)) {
      numbers.set(digits, new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
    }
    return numbers.get(digits).format(value);
  };
  const readable = text => data.labels[text] ?? text.replaceAll("_", " ");

  // Rows are known by their index in the data, whatever their order on the page.
  const texts = data.rows.map(row =>
    ["question", "answer", "gold", "task", "category"].map(name => row[at[name]]).join("\n").toLowerCase());
  const opened = new Map(), packs = new Map();
  let order = data.rows.map((_, index) => index), matching = order, shown = PAGE;

  const make = (name, className, ...children) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };

  const unpack = async number => {
    const packed = Uint8Array.from(atob(document.getElementById("pack-" + number).textContent), c => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };

  const read = async index => {
    const number = Math.floor(index / data.perPack);
    if (!packs.has(number)) packs.set(number, unpack(number));
    return (await packs.get(number))[index % data.perPack];
  };

  const openRow = index => {
    const row = data.rows[index], reader = make("div", "reader");
    const names = ["task " + row[at.task], row[at.trajectory] ? "trajectory " + row[at.trajectory] : "no trajectory was kept"];
    reader.id = "reader-" + index;
    reader.append(make("p", "facts", names.join(" · ")));
    const cell = make("td", "", reader);
    cell.colSpan = columns.length;
    opened.set(index, make("tr", "opened", cell));
    read(index).then(
      // Escaped by its template when the page was written.
      markup => reader.insertAdjacentHTML("beforeend", markup),
      failure => reader.append(make("p", "", "This browser could not unpack the trajectory: " + failure)));
  };

  const questionCell = index => {
    const button = make("button", "", data.rows[index][at.question]);
    button.type = "button";
    button.ariaExpanded = String(opened.has(index));
    button.setAttribute("aria-controls", "reader-" + index);
    button.addEventListener("click", () => {
      const element = button.closest("tr");
      if (opened.has(index)) {
        opened.get(index).remove();
        opened.delete(index);
      } else {
        openRow(index);
        element.after(opened.get(index));
        history.replaceState(null, "", "#" + link(index));
      }
      button.ariaExpanded = String(opened.has(index));
    });
    const cell = make("th", "", button);
    cell.scope = "row";
    return cell;
  };

  const answerCell = row => {
    const grade = data.grades[row[at.grade]];
    const mark = make("span", "grade", { right: "✓", partly: "~", wrong: "✗" }[grade]);
    mark.role = "img";
    mark.ariaLabel = grade;
    const cell = make("td", "given " + { right: "good", partly: "partly", wrong: "bad" }[grade], mark, row[at.answer] || "–");
    if (grade !== "right") cell.append(make("small", "", "expected " + row[at.gold]));
    return cell;
  };

  const draw = index => {
    const row = data.rows[index], element = make("tr");
    for (const { name, digits } of columns) {
      const value = row[at[name]];
      if (name === "question") element.append(questionCell(index));
      else if (name === "answer") element.append(answerCell(row));
      else if (digits === undefined) element.append(make("td", "", readable(value)));
      else element.append(make("td", "number", value === null ? "–" : (name === "gain" && value > 0 ? "+" : "") + format(value, digits)));
    }
    return opened.has(index) ? [element, opened.get(index)] : [element];
  };

  const show = () => {
    table.tBodies[0].replaceChildren(...matching.slice(0, shown).flatMap(draw));
    count.textContent = format(matching.length, 0) + " of " + format(data.rows.length, 0) + " questions";
    more.hidden = matching.length <= shown;
    more.textContent = "Show " + format(Math.min(PAGE, matching.length - shown), 0) + " more";
  };

  const filter = () => {
    const wanted = [...new FormData(filters)].filter(([name, value]) => name !== "text" && value !== "");
    const words = filters.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    matching = order.filter(index =>
      wanted.every(([name, value]) => String(data.rows[index][at[name]]) === value) &&
      words.every(word => texts[index].includes(word)));
    shown = PAGE;
    show();
  };

  const { compare } = new Intl.Collator("en", { numeric: true });
  const sortBy = (head, { name, digits }) => {
    const isNumeric = digits !== undefined, field = at[name];
    const first = isNumeric ? "descending" : "ascending", second = isNumeric ? "ascending" : "descending";
    const direction = head.ariaSort === first ? second : first;
    const sign = direction === "ascending" ? 1 : -1;
    // What is unknown stays at the end in either order.
    order.sort((one, other) => {
      const a = data.rows[one][field], b = data.rows[other][field];
      return a === null || b === null ? (a === null) - (b === null) : sign * (isNumeric ? a - b : compare(a, b));
    });
    heads.forEach(each => { each.ariaSort = each === head ? direction : null; });
    filter();
  };

  const link = index => encodeURIComponent(["dataset", "agent", "task"].map(name => data.rows[index][at[name]]).join("/"));
  const follow = () => {
    const index = data.rows.findIndex((_, index) => "#" + link(index) === location.hash);
    if (index < 0) return;
    openRow(index);
    order = [index, ...order.filter(other => other !== index)];
    filter();
    table.tBodies[0].rows[0].scrollIntoView();
  };

  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => sortBy(head, columns[column])));
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", event => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(filter));
  more.addEventListener("click", () => {
    const last = matching[shown];
    shown += PAGE;
    show();
    // The button moves away from the reader, who goes on where the new rows begin.
    document.querySelector(`[aria-controls="reader-${last}"]`).focus();
  });
  filter();
  follow();
}
