"use strict";

// Sorts a table's model rows by a column; rows without a value stay last, scale rows stay where they are.
function sortBy(button) {
  const header = button.closest("th");
  const table = header.closest("table");
  const place = header.cellIndex;
  const body = table.tBodies[0];
  const first = header.dataset.better === "higher" ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = header.getAttribute("aria-sort") === first ? other : first;
  const sign = direction === "ascending" ? 1 : -1;
  const isText = header.dataset.better === "text";
  const rows = Array.from(body.rows);
  const valueOf = (row) => row.cells[place].dataset.order || "";
  rows.sort((a, b) => {
    const [x, y] = [valueOf(a), valueOf(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (isText ? x.localeCompare(y) : Number(x) - Number(y));
  });
  body.append(...rows);
  for (const cell of table.tHead.rows[0].cells) {
    if (cell.hasAttribute("aria-sort")) cell.setAttribute("aria-sort", cell === header ? direction : "none");
  }
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button));
}

// Paper has no closed parts.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details")) part.open = true;
});
