"use strict";
// The results of a card are laid out when they are asked for: all of them would be a very long page.
(() => {
  const HEADS = ["forward", "suite", "metric", "value", "95% interval", "n", "status", "where", "reason"];

  function rows(anchor, { texts, cells, facets: names }) {
    const found = [];
    for (const [forward, suite, place, facets, records] of cells[anchor] || []) {
      const own = Object.fromEntries(names.map((name, i) => [name, texts[facets[i]]]));
      if (!state.allows(own)) continue;
      for (const record of records) {
        const [metric, value, ends, n, status, reason] = Array.from({ length: 6 }, (_, i) => texts[record[i] || 0]);
        found.push([texts[forward], texts[suite], metric, value, ends, n, status || "ok", texts[place], reason]);
      }
    }
    return found;
  }

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  async function fill(details) {
    const card = details.closest(".card"), found = rows(card.id, (await state.data).results);
    const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    const told = `All results of ${card.dataset.variant}`;
    table.prepend(element("caption", told));
    for (const name of HEADS) head.append(element("th", name, { scope: "col" }));
    for (const [first, ...rest] of found) {
      const row = body.insertRow();
      row.append(element("th", first, { scope: "row" }));
      rest.forEach((text, i) => row.append(element("td", text, i === 5 ? { class: text } : {})));
    }
    const box = element("div", undefined, { class: "scroll long words", tabindex: 0, role: "region", "aria-label": told });
    box.append(table);
    tables.prepare(table);
    details.querySelector(".scroll")?.remove();
    details.append(box);
  }

  document.addEventListener("toggle", ({ target }) => {
    if (target.matches?.(".results") && target.open) fill(target);
  }, true);
  state.watch(() => document.querySelectorAll(".results[open]").forEach(fill));
})();
