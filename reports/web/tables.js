"use strict";
// Any table is sorted by a click or a key on a header: ascending, descending, as it was.
const tables = (() => {
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  function key(cell) {
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim(), number = text.match(/^[=?] ?(-?[\d.]+)|^(-?\d[\d.]*(?:e[-+]?\d+)?)/);
    if (number) return Number(number[1] ?? number[2]);
    return text === "-" ? "" : text;
  }

  // Numbers before words, and what is empty always last.
  function compare(a, b, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return sign * (typeof a === "number" ? a - b : a.localeCompare(b));
  }

  function sort(table, column, order) {
    const body = table.tBodies[0], rows = [...body.rows];
    rows.forEach((row, i) => { row.dataset.was ??= i; });
    const keys = new Map(rows.map((row) => [row, order === "none" ? Number(row.dataset.was) : key(row.cells[column])]));
    const sign = order === "descending" ? -1 : 1;
    // Controls are not ranked: they stay last.
    const last = (row) => "control" in row.dataset;
    body.append(...rows.sort((a, b) => last(a) - last(b) || compare(keys.get(a), keys.get(b), sign)));
    for (const head of table.tHead.rows[0].cells)
      head.setAttribute("aria-sort", head.cellIndex === column ? order : "none");
  }

  function prepare(table) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const order = NEXT[head.getAttribute("aria-sort")];
        sort(table, head.cellIndex, order);
        if (table.id) state.sort(table.id, order === "none" ? "" : `${head.cellIndex}${order[0]}`);
      });
    }
  }

  const all = [...document.querySelectorAll("main table[id]")];
  all.forEach(prepare);
  state.watch(({ sort: wanted }) => {
    for (const table of all) {
      const how = wanted[table.id] || "0n", column = parseInt(how, 10);
      const order = { a: "ascending", d: "descending", n: "none" }[how.at(-1)];
      const now = table.tHead.rows[0].cells[column]?.getAttribute("aria-sort");
      if (now && (order !== "none" || table.querySelector("[aria-sort$=cending]")) && now !== order) sort(table, column, order);
    }
  });

  // A finger can't hover: a tap shows what a title says.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "status");
  document.body.append(tip);
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("td[title]");
    tip.textContent = cell ? cell.title : "";
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.textContent = ""; });
  return { prepare };
})();
