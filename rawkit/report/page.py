"""One page in one file about a run, or several on the same axes: plots to zoom into, what was measured, what
was run and how to do it again. It needs no network: a browser that opens it asks nobody for anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from string import Template
from typing import Any

from rawkit.report.draw import COLOURS, DASHES, RUNS
from rawkit.report.figures import Line, Panel, overlay, panels, thin
from rawkit.report.needs import need
from rawkit.report.run import Run
from rawkit.sim.ladders import ladder_svg

MOST = 4000
"""Points of a line in the page at most, so that it opens at once."""
RUNGS = 200
"""Packets and events in the ladder diagram."""


def page(runs: Sequence[Run], *, title: str = "") -> str:
    """The page about these runs.

    Raises:
        MissingLibrary: plotly, whose JavaScript goes into the page, is not installed.
        ValueError: no runs.
    """
    if not runs:
        raise ValueError("there are no runs to show")
    every = panels(runs[0]) if len(runs) == 1 else overlay(runs)
    several = len(runs) > 1
    thinned = any(thin(line, MOST) is not line for panel in every for line in panel.lines)
    note = (
        f" Of what has more than {MOST} points some are left out, none of the lowest and highest of a curve."
    )
    first = runs[0]
    values = {
        "title": escape(title or (" and ".join(run.name for run in runs) if several else first.name)),
        "note": escape(_note(runs)),
        "tables": _tables(runs),
        "thinned": note if thinned else "",
        "places": "\n".join(f'<div class="plot" id="{escape(panel.key)}"></div>' for panel in every),
        "pictures": "\n".join(_pictures(runs)),
        "plots": _json({"panels": [_told(panel, several) for panel in every], "colours": COLOURS}),
        "library": _library(),
        "script": _text("page.js"),
    }
    return Template(_text("page.html")).substitute(values)


@cache
def _text(file: str) -> str:
    return resources.files("rawkit.report").joinpath(file).read_text(encoding="utf-8")


@cache
def _library() -> str:
    need("plotly")
    source = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    return source.replace("</script", "<\\/script")


# ---- plots --------------------------------------------------------------------------------------------


def _told(panel: Panel, several: bool) -> Mapping[str, Any]:
    return {
        "key": panel.key,
        "title": panel.title,
        "unit": panel.unit,
        "until": panel.until,
        "lines": [_line(thin(line, MOST), several) for line in panel.lines],
    }


_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}


def _line(line: Line, several: bool) -> Mapping[str, Any]:
    dash = DASHES[line.run % len(DASHES)] if several else "--" if line.tone in ("limit", "window") else "-"
    return {
        "name": line.name,
        "hidden": line.hidden,
        "look": line.look,
        "tone": line.tone,
        "colour": RUNS[line.run % len(RUNS)] if several else line.tone,
        "dash": _DASHES[dash],
        "xs": line.xs,
        "ys": line.ys,
        # Of a bar's three points the last is a gap, and its ends say the same.
        "texts": line.texts[::3] if line.look == "bars" else line.texts,
    }


def _json(value: Any) -> str:
    """JSON that can stand in a script element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


# ---- tables and pictures ------------------------------------------------------------------------------


def _note(runs: Sequence[Run]) -> str:
    packets = sum(1 for run in runs for event in run.trace if event.kind == "send")
    seconds = max(run.end_ns for run in runs) / 1e9
    return (
        f"{len(runs)} runs, {packets} packets" if len(runs) > 1 else f"{packets} packets in {seconds:.3f} s"
    )


def _tables(runs: Sequence[Run]) -> str:
    parts = []
    for heading, told in (
        ("What was measured", [run.metrics for run in runs]),
        ("What was run", [run.settings for run in runs]),
    ):
        names = list(dict.fromkeys(name for each in told for name in each))
        if not names:
            continue
        head = "".join(f"<th>{escape(run.name)}</th>" for run in runs)
        rows = [f"<tr><th></th>{head}</tr>"] if len(runs) > 1 else []
        for name in names:
            cells = "".join(f"<td>{escape(value_text(each.get(name, '')))}</td>" for each in told)
            rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
        parts.append(f"<h2>{heading}</h2>\n<table>\n{chr(10).join(rows)}\n</table>")
    return "\n".join(parts)


def value_text(value: Any) -> str:
    """A figure as a person reads it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {value_text(each)}" for name, each in value.items()) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "never"}[value]
    if isinstance(value, float):
        return f"{value:,.6g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _pictures(runs: Sequence[Run]) -> Iterable[str]:
    for run in runs:
        which = f" ({escape(run.name)})" if len(runs) > 1 else ""
        if len(runs) == 1 and len(run.hosts) == 2:
            picture = ladder_svg(run.trace, run.roles.header, most=RUNGS)
            yield _folded(f"Ladder diagram: the first {RUNGS} packets and events", picture, "picture")
        if run.machine is not None:
            taken = run.machine.report().splitlines()[0]
            yield _folded(f"State machine{which}: {escape(taken)}", run.machine.to_svg(), "picture", " open")
        if run.script:
            yield _folded(f"To do it again{which}", f"<pre>{escape(run.script)}</pre>", "script")


def _folded(heading: str, content: str, kind: str, state: str = "") -> str:
    inside = f'<summary>show</summary><div class="{kind}">{content}</div>'
    return f"<h2>{heading}</h2>\n<details{state}>{inside}</details>"
