"use strict";
// Draws the plots of the page, in the colours that the reader's system asks for, and zooms them together.
(() => {
  const { panels, colours } = JSON.parse(document.getElementById("plots").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const symbols = { lost: "x", third: "x", again: "triangle-up" };

  function trace(line, palette) {
    const bars = line.look === "bars", points = line.look === "points", tint = palette[line.colour];
    return {
      name: line.name, visible: line.hidden ? "legendonly" : true, x: line.xs, y: line.ys, type: "scatter", connectgaps: false,
      // Of few packets among many the bars are too short to be seen: marks stand at their ends.
      mode: points ? "markers" : bars && line.tone !== "sack" ? "lines+markers" : "lines",
      line: { color: tint, width: bars ? (line.tone === "sack" ? 1 : 3) : 1.5, dash: line.dash,
        shape: line.look === "steps" ? "hv" : "linear" },
      marker: { color: tint, size: symbols[line.tone] ? 7 : bars ? 2 : 4, symbol: symbols[line.tone] || "circle" },
      text: bars ? line.texts.flatMap((text) => [text, text, text]) : line.texts,
      hovertemplate: (line.texts.length ? "%{text}<br>" : "") + "%{x:.6f} s, %{y:,.6~g}<extra>%{fullData.name}</extra>",
    };
  }

  function layout(panel, palette) {
    const axis = { gridcolor: palette.grid, zerolinecolor: palette.grid, linecolor: palette.text };
    return {
      title: { text: panel.title, x: 0, xref: "paper", font: { size: 14 } },
      paper_bgcolor: palette.ground, plot_bgcolor: palette.ground, font: { color: palette.text, size: 12 },
      margin: { l: 70, r: 220, t: 40, b: 45 }, hovermode: "closest",
      legend: { orientation: "v", x: 1.01, y: 1 }, showlegend: panel.lines.length > 1,
      xaxis: { ...axis, title: { text: "time (s)" }, range: [0, panel.until * 1.01 || 1] },
      yaxis: { ...axis, title: { text: panel.unit }, rangemode: "tozero" },
    };
  }

  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
  const plots = [];
  let following = false;

  function follow(source, change) {
    if (following) return;
    const whole = change["xaxis.autorange"];
    const range = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (!whole && range[0] === undefined) return;
    following = true;
    const others = plots.filter((plot) => plot.place !== source);
    Promise.all(others.map(({ place, panel }) => Plotly.relayout(place, whole
      ? { "xaxis.range": [0, panel.until * 1.01 || 1], "yaxis.autorange": true }
      : { "xaxis.range": range }))).then(() => { following = false; });
  }

  function show() {
    const palette = colours[dark.matches ? "dark" : "light"];
    return Promise.all(panels.map((panel) => Plotly.react(
      panel.key, panel.lines.map((line) => trace(line, palette)), layout(panel, palette), config)));
  }

  const shown = show();
  for (const panel of panels) {
    const place = document.getElementById(panel.key);
    plots.push({ place, panel });
    place.on("plotly_relayout", (change) => follow(place, change));
  }
  dark.addEventListener("change", show);
  shown.then(() => { document.body.dataset.ready = "yes"; });
})();
