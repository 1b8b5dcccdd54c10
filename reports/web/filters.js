"use strict";
// Hides what was not asked for: rows and cards by variant; parts, figures and columns by facet.
(() => {
  const form = document.getElementById("filters");
  const main = document.getElementById("main");
  const said = state.FACETS.map((f) => `[data-${f}]`).join(",");

  function columns(heads) {
    for (const head of heads) {
      const hidden = !state.allows(head.dataset);
      for (const row of head.closest("table").rows) row.cells[head.cellIndex].hidden = hidden;
    }
  }

  function apply({ chosen }) {
    for (const field of form.elements) if (field.name) field.value = chosen[field.name] || "";
    for (const part of main.querySelectorAll(`${said},[data-variant]`))
      if (part.tagName !== "TH") part.hidden = !state.allows(part.dataset) || !state.shows(part.dataset.variant);
    columns(main.querySelectorAll("thead th" + said.replaceAll(",", ",thead th")));
    for (const link of document.querySelectorAll("#contents a")) {
      const place = document.getElementById(link.getAttribute("href").slice(1));
      link.hidden = Boolean(place && place.closest("[hidden]"));
    }
    const names = Object.keys(state.variants), left = names.filter(state.shows).length;
    form.querySelector("output").textContent =
      Object.keys(chosen).length ? `${left} of ${names.length} variants` : "";
  }

  function choose() {
    const given = [...new FormData(form)].filter(([, value]) => value.trim());
    state.choose(Object.fromEntries(given.map(([name, value]) => [name, value.trim()])));
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", choose);
  form.addEventListener("reset", () => state.choose({}));
  state.watch(apply);
  if (window.matchMedia("(max-width: 60rem)").matches) document.getElementById("contents").open = false;
})();
