"use strict";
// What the reader chose, kept in the fragment of the address: a link that is sent on shows the same.
// A plain #anchor leads to a place; with choices it is #kind=attention&sort=t3.1d&at=anchor.
const state = (() => {
  const FACETS = ["kind", "device", "dtype", "pattern", "direction"];
  const CHOICES = ["name", "tag", ...FACETS];
  const text = (id) => document.getElementById(id).textContent;
  const variants = JSON.parse(text("variants"));
  // Charts and results are compressed in the page.
  const bytes = new Blob([Uint8Array.from(atob(text("data")), (c) => c.charCodeAt(0))]);
  const data = new Response(bytes.stream().pipeThrough(new DecompressionStream("gzip"))).json();
  const listeners = [];
  let now = read();

  function read() {
    const text = location.hash.slice(1);
    const given = new URLSearchParams(text.includes("=") ? text : { at: text });
    const chosen = {}, sort = {};
    for (const name of CHOICES) if (given.get(name)) chosen[name] = given.get(name);
    for (const one of given.getAll("sort")) {
      const [table, how] = one.split(".");
      if (/^\d+[ad]$/.test(how)) sort[table] = how;
    }
    return { chosen, sort, at: given.get("at") || "" };
  }

  function write(how) {
    const given = new URLSearchParams(now.chosen);
    for (const [table, order] of Object.entries(now.sort)) given.append("sort", `${table}.${order}`);
    const plain = now.at && !given.size;
    if (now.at && !plain) given.set("at", now.at);
    history[how](null, "", `#${plain ? now.at : given}`);
  }

  function reveal(id) {
    const place = document.getElementById(id);
    if (!place) return;
    for (let box = place; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
    if (!place.hasAttribute("tabindex")) place.tabIndex = -1;
    place.focus({ preventScroll: true });
    place.scrollIntoView();
  }

  function tell() {
    for (const listener of listeners) listener(now);
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    now.at = link.getAttribute("href").slice(1);
    write("pushState");
    reveal(now.at);
  });
  window.addEventListener("popstate", () => { now = read(); tell(); reveal(now.at); });
  window.addEventListener("load", () => reveal(now.at));

  return {
    FACETS, variants, data, // a promise of {charts, results}
    get now() { return now; },
    // Calls back now and whenever something was chosen.
    watch(listener) { listeners.push(listener); listener(now); },
    choose(chosen) { now.chosen = chosen; write("replaceState"); tell(); },
    sort(table, order) {
      if (order) now.sort[table] = order; else delete now.sort[table];
      write("replaceState");
    },
    // Whether a variant is among those asked for; what is no variant always is.
    shows(name) {
      const about = variants[name], { name: part, kind, tag } = now.chosen;
      return !about || ((!part || name.toLowerCase().includes(part.toLowerCase()))
        && (!kind || about.kind === kind) && (!tag || about.tags.includes(tag)));
    },
    // Whether a part with these facets is: what does not say stays.
    allows(facets) {
      return FACETS.every((f) => !now.chosen[f] || !facets[f] || facets[f] === now.chosen[f]);
    },
  };
})();
