"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function config(narrow) {
    const text = colour("--text"), soft = colour("--soft"), line = colour("--line");
    return {
      background: "transparent",
      font: "system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif",
      view: { stroke: line },
      axis: {
        labelColor: text, titleColor: soft, gridColor: line, domainColor: line, tickColor: line,
        labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
        ...(narrow ? { labelLimit: 130 } : {}),
      },
      legend: {
        labelColor: text, titleColor: soft, labelFontSize: 12, labelLimit: narrow ? 220 : 240,
        symbolLimit: 0, ...(narrow ? { orient: "bottom", columns: 1 } : {}),
      },
      range: { category: { scheme: "tableau10" }, ordinal: dark.matches ? { scheme: "viridis", extent: [0.45, 1] } : { scheme: "plasma", extent: [0, 0.75] } },
    };
  }

  async function draw(i) {
    const place = document.getElementById(`chart${i}`);
    const narrow = place.clientWidth < 560;
    await window.vegaEmbed(place, structuredClone(specs[i]), {
      actions: { export: true, source: false, compiled: false, editor: false },
      renderer: "svg", config: config(narrow), mode: "vega-lite",
    });
  }

  // A chart is drawn when it comes near the screen: a report may hold hundreds.
  const drawn = new Set();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const i = Number(entry.target.id.slice("chart".length));
      if (entry.isIntersecting && !drawn.has(i)) {
        drawn.add(i);
        draw(i);
      }
    }
  }, { rootMargin: "600px" });
  specs.forEach((_, i) => watcher.observe(document.getElementById(`chart${i}`)));
  const again = () => drawn.forEach(draw);
  dark.addEventListener("change", again);
  window.addEventListener("beforeprint", () => specs.forEach((_, i) => { drawn.add(i); draw(i); }));
})();
