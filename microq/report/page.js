"use strict";
// Draws the figures of this page, which contains plotly.js in compressed form.
(async () => {
  const charts = [...document.querySelectorAll(".chart")];
  const figures = JSON.parse(document.getElementById("script-figures").textContent);
  const PAPER_WIDTH = 680;

  // A colour is the name of a CSS variable, so the colours for light, dark and paper are defined in one place.
  const coloured = (value, style) => {
    if (Array.isArray(value)) return value.map((each) => coloured(each, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [
      key,
      key.endsWith("color") && typeof inner === "string" && inner.startsWith("--")
        ? style.getPropertyValue(inner).trim() : coloured(inner, style),
    ]));
  };

  const inflate = async (packed) => {
    const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };

  const draw = (width) => {
    const style = getComputedStyle(document.documentElement);
    for (const chart of charts) {
      const { data, layout } = coloured(figures[chart.id], style);
      const seen = chart.layout; // the zoom of the reader is kept
      for (const axis of ["xaxis", "yaxis"]) {
        if (seen && seen[axis] && seen[axis].autorange === false) layout[axis].range = [...seen[axis].range];
      }
      layout.height = Number(chart.dataset.height);
      if (width) layout.width = width; else layout.autosize = true;
      Plotly.react(chart, data, layout, {
        displaylogo: false, responsive: !width, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
      });
    }
  };

  // All charts over time have the same zoom.
  const join = (together) => {
    let busy = false;
    for (const chart of together) {
      chart.on("plotly_relayout", async (change) => {
        const given = Object.keys(change).filter((key) => key.startsWith("xaxis."));
        if (busy || !given.length) return;
        busy = true;
        const mine = Object.fromEntries(given.map((key) => [key, change[key]]));
        await Promise.all(together.filter((other) => other !== chart).map((other) => Plotly.relayout(other, mine)));
        busy = false;
      });
    }
  };

  try {
    const script = document.createElement("script");
    script.textContent = await inflate(document.getElementById("script-plotly").textContent.trim());
    document.head.append(script);
    for (const chart of charts) chart.replaceChildren();
    draw();
  } catch (error) {
    for (const chart of charts) chart.textContent = `The chart could not be drawn (${error}); the tables say the same.`;
    throw error;
  }
  join(charts.filter((chart) => "time" in chart.dataset));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
  addEventListener("beforeprint", () => { document.documentElement.classList.add("on-paper"); draw(PAPER_WIDTH); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("on-paper"); draw(); });
  document.documentElement.dataset.drawn = "yes";
})();
