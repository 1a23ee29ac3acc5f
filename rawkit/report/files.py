"""A run, or several, as a file: what kind follows from its name."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rawkit.report import capture, draw, figures, page, qlog, series, xpl
from rawkit.report.draw import Theme
from rawkit.report.run import Run
from rawkit.sim.ladders import ladder_svg

Runs = Run | Sequence[Run]


def save(runs: Runs, path: str | os.PathLike[str], *, title: str = "", theme: Theme = "light",
         only: Iterable[str] = ()) -> None:  # fmt: skip
    """Write .html (interactive), .svg, .png, .pdf, .csv (the numbers behind the plots), .pcapng, .qlog or
    .sqlog (JSON text sequences), .qvis (for qvis), .xpl (for xplot).

    Several runs come on the same axes; the last five hold one. `only` names the plots wanted, of a picture:
    sequence, window, rtt, goodput, queue, delivered; or one of ladder and states (the state machine).

    Raises:
        ValueError: another ending, an unknown plot, nothing to draw, several runs for a file that holds one.
        MissingLibrary: the library that plots need is not installed.
    """
    every = [runs] if isinstance(runs, Run) else list(runs)
    suffix = Path(path).suffix.lower()
    only = list(only)
    if only and set(only) <= {*DIAGRAMS}:
        if (len(every), len(only), suffix) != (1, 1, ".svg"):
            raise ValueError(f"a picture of {only[0]} is an .svg of one run, and of nothing else")
        Path(path).write_text(DIAGRAMS[only[0]](every[0]), encoding="utf-8")
    elif suffix in (".svg", ".png", ".pdf"):
        draw.draw(chosen(every, only), path, theme=theme, title=title)
    elif suffix == ".html":
        Path(path).write_text(page.page(every, title=title), encoding="utf-8")
    elif suffix == ".csv":
        Path(path).write_text(table(every), encoding="utf-8")
    elif suffix in SINGLE:
        if len(every) != 1:
            raise ValueError(f"a {suffix} file holds one run, not {len(every)}")
        SINGLE[suffix](every[0], path)
    else:
        known = ", ".join([".html", ".svg", ".png", ".pdf", ".csv", *SINGLE])
        raise ValueError(f"{path}: which kind of file? Names end in {known}")


def show(runs: Runs, *, title: str = "") -> Path:
    """Open the page about these runs in the browser of this desktop; returns the file, which stays."""
    import tempfile
    import webbrowser

    path = Path(tempfile.mkdtemp(prefix="rawkit-")) / "run.html"
    save(runs, path, title=title)
    webbrowser.open(path.as_uri())
    return path


def chosen(runs: Sequence[Run], only: Iterable[str]) -> list[figures.Panel]:
    """The panels of these runs, or some of them."""
    every = figures.panels(runs[0]) if len(runs) == 1 else figures.overlay(runs)
    keys = list(only)
    known = [panel.key for panel in every]
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise ValueError(f"there is no plot {unknown[0]!r}; there are {', '.join(known)}")
    return [panel for panel in every if not keys or panel.key in keys]


def table(runs: Sequence[Run]) -> str:
    """The numbers behind the plots as comma-separated values: run, series, seconds, value."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["run", "series", "seconds", "value"])
    for run in runs:
        for name, points in named_series(run):
            rows.writerows([run.name, name, f"{time:.9f}", f"{value:.10g}"] for time, value in points)
    return out.getvalue()


def named_series(run: Run) -> list[tuple[str, list[series.Point]]]:
    """All series of a run, in seconds, octets (or packets) and bits per second."""
    if not run.hosts:
        return []
    client = run.hosts[0]
    found = series.time_sequence(run, client)
    spans = [("sent", found.sent), ("sent again", found.again), ("lost", found.lost), ("sack", found.sack)]
    return [
        *((name, [(time, start) for time, start, _ in each]) for name, each in spans),
        ("acknowledged", found.ack),
        ("window", found.window),
        ("in flight", series.in_flight(run, client)),
        ("rtt", series.round_trips(run, client)),
        *_at_server(run),
        ("queueing delay", series.queueing_delay(run, client)),
        ("queue", series.queue_length(run, client)),
        *((f"metric {name}", points) for name, points in series.metrics(run, client).items()),
    ]


def _at_server(run: Run) -> list[tuple[str, list[series.Point]]]:
    if len(run.hosts) < 2:
        return []
    return [
        ("delivered", series.delivered(run, run.hosts[1])),
        ("goodput", series.goodput(run, run.hosts[1])),
    ]


def _pcapng(run: Run, path: str | os.PathLike[str]) -> None:
    capture.write_pcapng(run.trace, path, protocol=run.protocol)


def _text(write: Callable[[Run], str]) -> Callable[[Run, str | os.PathLike[str]], None]:
    def save_text(run: Run, path: str | os.PathLike[str]) -> None:
        if not run.hosts:
            raise ValueError("there is nothing to write: the run has no packets")
        Path(path).write_text(write(run), encoding="utf-8")

    return save_text


def _ladder(run: Run) -> str:
    return ladder_svg(run.trace, run.roles.header)


def _states(run: Run) -> str:
    if run.machine is None:
        raise ValueError(f"{run.name} has no state machine (rawkit.transport.Machine)")
    return run.machine.to_svg()


DIAGRAMS: dict[str, Callable[[Run], str]] = {"ladder": _ladder, "states": _states}

SINGLE: dict[str, Callable[[Run, str | os.PathLike[str]], None]] = {
    ".pcapng": _pcapng,
    ".qlog": _text(qlog.qlog),
    ".sqlog": _text(qlog.qlog),
    ".qvis": _text(qlog.export_qvis),
    ".xpl": _text(xpl.xpl),
}
"""Files that hold one run, by the ends of their names."""
