"use strict";
// Sorts tables by a click on a heading, or by a menu on phones, and filters their rows.
function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text.toLocaleLowerCase() : number;
}
function compare(a, b) {
  if (typeof a === typeof b && typeof a === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}
function sort(table, column, descending) {
  const rows = [...table.tBodies[0].rows];
  // Empty cells come last in either order.
  rows.sort((one, other) => {
    const a = value(one, column), b = value(other, column);
    if (a === null || b === null) return (a === null) - (b === null);
    return descending ? compare(b, a) : compare(a, b);
  });
  table.tBodies[0].append(...rows);
  [...table.tHead.rows[0].cells].forEach((heading, index) => {
    if (index === column) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    else heading.removeAttribute("aria-sort");
  });
}
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      // Numbers start with the largest.
      const descending = before ? before === "ascending" : heading.classList.contains("n");
      sort(table, column, descending);
    });
  });
  const tools = table.closest("section").querySelector(".tools");
  if (!tools) continue;
  tools.hidden = false;
  const choice = tools.querySelector("select");
  headings.forEach((heading, column) => {
    for (const [name, descending] of [["up", false], ["down", true]]) {
      const option = document.createElement("option");
      option.textContent = `${heading.textContent}, ${name}`;
      option.value = `${column} ${Number(descending)}`;
      choice.append(option);
    }
  });
  choice.addEventListener("change", () => {
    const [column, descending] = choice.value.split(" ").map(Number);
    sort(table, column, Boolean(descending));
  });
  const search = tools.querySelector("input"), shown = tools.querySelector("output");
  const filter = () => {
    const words = search.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of table.tBodies[0].rows) {
      const text = `${row.textContent} ${row.dataset.words ?? ""}`.toLocaleLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${table.tBodies[0].rows.length}`;
  };
  search.addEventListener("input", filter);
  filter();
}
