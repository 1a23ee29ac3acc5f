"""Panels as pictures for papers and pages: SVG, PNG or PDF, by matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, Any, Literal

from rawkit.report.figures import Line, Panel, thin
from rawkit.report.needs import need

Theme = Literal["light", "dark"]

# Okabe and Ito's colours, which people with any colour vision can tell apart (Wong, Nature Methods 8, 441);
# brighter for dark grounds, and without the yellow for light ones.
COLOURS: dict[Theme, dict[str, str]] = {
    "light": {
        "main": "#0072b2", "again": "#d55e00", "lost": "#000000", "ack": "#009e73", "window": "#999999",
        "sack": "#cc79a7", "second": "#56b4e9", "third": "#e69f00", "limit": "#d55e00",
        "ground": "#ffffff", "text": "#222222", "grid": "#e4e4e4",
    },
    "dark": {
        "main": "#56b4e9", "again": "#ff8c42", "lost": "#ffffff", "ack": "#2ed3a2", "window": "#8a8a8a",
        "sack": "#e59fc6", "second": "#0072b2", "third": "#f0e442", "limit": "#ff8c42",
        "ground": "#16191d", "text": "#e6e6e6", "grid": "#333940",
    },
}  # fmt: skip
RUNS = ("main", "again", "ack", "sack", "third", "second")
"""The colours of several runs."""
DASHES = ("-", "--", "-.", ":")
MOST = 4000
"""Points of a line that a picture has at most: more than it has columns."""


def colour(line: Line, several: bool, theme: Theme) -> str:
    """A line's colour: of what it stands for, or, among several runs, of its run."""
    return COLOURS[theme][RUNS[line.run % len(RUNS)] if several else line.tone]


def draw(
    panels: Sequence[Panel],
    path_or_stream: str | os.PathLike[str] | IO[bytes],
    *,
    format: str | None = None,
    theme: Theme = "light",
    title: str = "",
    width: float = 8.0,
    height: float = 2.6,
) -> None:
    """Write panels, one below the other over the same time, as the format that the file's name ends in.

    `width` and the `height` of a panel are in inches. The same panels give the same octets.

    Raises:
        MissingLibrary: matplotlib is not installed.
        ValueError: there is nothing to draw.
    """
    need("matplotlib")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not panels:
        raise ValueError("there is nothing to draw: the run has no packets whose header has roles")
    palette = COLOURS[theme]
    settings: Any = {
        "svg.hashsalt": "rawkit", "svg.fonttype": "none", "font.size": 9, "axes.edgecolor": palette["text"],
        "axes.labelcolor": palette["text"], "text.color": palette["text"], "xtick.color": palette["text"],
        "ytick.color": palette["text"], "axes.facecolor": palette["ground"], "axes.spines.top": False,
        "axes.spines.right": False, "grid.color": palette["grid"], "axes.axisbelow": True,
        "path.simplify_threshold": 0.5, "font.family": "DejaVu Sans",
    }  # fmt: skip
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height * len(panels) + (0.3 if title else 0)), layout="constrained")
        FigureCanvasAgg(figure)
        figure.set_facecolor(palette["ground"])
        every = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(every, panels):
            _fill(axes, panel, theme)
            names = [line.name for line in panel.lines]
            several = any(line.run for line in panels[0].lines)  # they have the same names everywhere
            if len(names) > 1 and (panel is panels[0] or not several):
                # Beside the axes, where it covers nothing.
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
        every[-1].set_xlabel("time (s)")
        if title:
            figure.suptitle(title, fontsize=11)
        metadata = {"Date": None} if str(format or path_or_stream).lower().endswith(("svg", "pdf")) else None
        if metadata and str(format or path_or_stream).lower().endswith("pdf"):
            metadata = {"CreationDate": None}
        figure.savefig(path_or_stream, format=format, dpi=150, metadata=metadata)


def _fill(axes: Any, panel: Panel, theme: Theme) -> None:
    panel = replace(panel, lines=[line for line in panel.lines if not line.hidden])
    several = any(line.run for line in panel.lines)
    for line in panel.lines:
        _add(axes, thin(line, MOST), colour(line, several, theme), several)
    axes.set_title(panel.title, loc="left", fontsize=10)
    axes.set_ylabel(panel.unit)
    axes.set_xlim(0, panel.until * 1.01 or 1)
    axes.margins(y=0.08)
    if all(isinstance(y, (int, float)) and y >= 0 for line in panel.lines for y in line.ys if y is not None):
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.0) if panel.unit == "packets" else None)
    axes.grid(True, linewidth=0.6)
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    axes.yaxis.set_major_formatter(_short)


def _add(axes: Any, line: Line, tint: str, several: bool) -> None:
    gap = float("nan")
    xs = [gap if x is None else x for x in line.xs]
    ys = [gap if y is None else y for y in line.ys]
    common = {"color": tint, "label": line.name}
    if line.look == "bars":
        thickness = {"sack": 0.8}.get(line.tone, 2.0)
        # Of few packets among many the bars are too short to be seen.
        marked = {"marker": "^", "markersize": 4, "markevery": 3} if line.tone == "again" else {}
        axes.plot(xs, ys, linewidth=thickness, solid_capstyle="butt", zorder=3, **marked, **common)
    elif line.look == "points":
        lost = line.tone in ("lost", "third")
        axes.plot(
            xs, ys, "x" if lost else ".", markersize=6 if lost else 3, zorder=4 if lost else 3, **common
        )
    else:
        dash = (
            DASHES[line.run % len(DASHES)] if several else "--" if line.tone in ("limit", "window") else "-"
        )
        steps = "steps-post" if line.look == "steps" else "default"
        axes.plot(xs, ys, dash, drawstyle=steps, linewidth=1.2, **common)


def _short(value: float, _: int) -> str:
    """1500000 as "1.5M": octets and numbers grow long."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"
