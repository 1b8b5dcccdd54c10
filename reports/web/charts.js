"use strict";
state.data.then(({ charts: specs }) => {
  const places = [...document.querySelectorAll(".chart")];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Okabe and Ito's palette, which those with any colour vision can tell apart; its yellow and black
  // are exchanged for what can be seen on both grounds.
  const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b8860b", "#7f7f7f", "#8c6bb1"];
  const DARK = ["#56b4e9", "#e69f00", "#2bc493", "#e79ac6", "#f0e442", "#ff8c5a", "#b0b0b0", "#b39ddb"];

  function config(narrow, light) {
    const text = colour("--text"), soft = colour("--soft"), line = colour("--line");
    return {
      background: "transparent",
      font: "system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif",
      view: { stroke: line },
      text: { color: text },
      title: { color: text },
      header: { labelColor: text, titleColor: soft },
      axis: {
        labelColor: text, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
        ...(narrow ? { labelLimit: 110, titleLimit: 220 } : {}),
      },
      legend: {
        labelColor: text, titleColor: soft, labelFontSize: 12, labelLimit: narrow ? 220 : 240,
        symbolLimit: 0, symbolBaseFillColor: text, symbolBaseStrokeColor: text,
        ...(narrow ? { orient: "bottom", columns: 1 } : {}),
      },
      range: {
        category: light ? PALETTE : DARK,
        ordinal: light ? { scheme: "viridis", extent: [0, 0.75] } : { scheme: "viridis", extent: [0.4, 1] },
      },
    };
  }

  // Without the variants that were not asked for; a row that names none stays.
  function chosen(spec) {
    const made = structuredClone(spec), values = made.data?.values;
    if (Array.isArray(values)) {
      made.data.values = values.filter((row) => {
        const label = row.variant ?? row.rival ?? row.forward;
        return typeof label !== "string" || state.shows(label.split(":")[0]);
      });
    }
    return made;
  }

  function draw(i) {
    const place = places[i];
    if (!place.clientWidth) return undefined; // hidden, or folded away
    const light = !dark.matches || document.documentElement.dataset.theme === "light";
    return window.vegaEmbed(place, chosen(specs[i]), {
      actions: { export: true, source: false, compiled: false, editor: false },
      logLevel: 1, // errors alone: that an order is shown by shapes too is meant
      renderer: "svg", config: config(place.clientWidth < 560, light), mode: "vega-lite",
      tooltip: { theme: light ? "light" : "dark" },
    });
  }

  // A chart is drawn when it comes near the screen: a report may hold hundreds.
  const near = new Set(), stale = new Set(specs.keys());
  function update() {
    for (const i of near) if (stale.delete(i)) draw(i);
  }
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const i = places.indexOf(target);
      if (isIntersecting) near.add(i); else near.delete(i);
    }
    update();
  }, { rootMargin: "600px" });
  places.forEach((place) => watcher.observe(place));

  function again() {
    specs.forEach((_, i) => stale.add(i));
    update();
  }
  dark.addEventListener("change", again);
  let before = JSON.stringify(state.now.chosen);
  state.watch(({ chosen: now }) => {
    if (JSON.stringify(now) !== before) again();
    before = JSON.stringify(now);
  });
  // Paper is white.
  window.addEventListener("beforeprint", () => {
    document.documentElement.dataset.theme = "light";
    specs.forEach((_, i) => draw(i));
  });
  window.addEventListener("afterprint", () => { delete document.documentElement.dataset.theme; again(); });
});
