"""What `rawkit ping --plot` and `--live` draw in a terminal: times as they pass, and how they are spread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from rawkit.cli.ping import milliseconds, running_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rawkit.tools.ping import Ping, PingEvent
    from rawkit.tools.probeping import ProbePing

LOST = "x"
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_KEPT_N = 4096
_LABEL_LEN = 9
_HISTOGRAM_ROWS = 8
_EVERY_NS = 50_000_000


def columns(values: Sequence[int | None], width: int, height: int) -> list[str]:
    """The last `width` values as columns of `height` lines, the scale from 0 to the largest of them on the
    left; None, a request without an answer, is a cross at the foot."""
    shown = list(values)[-(width - _LABEL_LEN) :]
    top = max((value for value in shown if value is not None), default=0) or 1
    filled = [0 if value is None else max(1, round(value / top * height * 8)) for value in shown]
    lines = []
    for row in range(height, 0, -1):
        cells = [_EIGHTHS[min(max(eighths - (row - 1) * 8, 0), 8)] for eighths in filled]
        if row == 1:
            cells = [LOST if value is None else cell for value, cell in zip(shown, cells)]
        label = milliseconds(top * row // height) if row in (height, (height + 1) // 2) else ""
        lines.append(f"{label:>{_LABEL_LEN - 2}} {'┤' if label else '│'}" + "".join(cells))
    return lines


def histogram(values: Sequence[int | None], width: int, rows: int = _HISTOGRAM_ROWS) -> list[str]:
    """How many values fall into each of `rows` ranges, each as many times as wide as it is long that the
    smallest and the largest are its ends: a line per range."""
    known = [value for value in values if value is not None]
    if not known:
        return []
    low, high = max(min(known), 1), max(*known, 1)
    if high < low * 1.01:
        rows = 1
    step = (high / low) ** (1 / rows)
    borders = [low * step**row for row in range(rows)] + [high + 1]
    counts = [sum(start <= value < end for value in known) for start, end in pairwise(borders)]
    counts[0] += sum(value < low for value in known)
    room = max(width - _LABEL_LEN * 2 - 10, 1)
    most = max(counts)
    return [
        f"{milliseconds(round(start)):>{_LABEL_LEN - 2}} -{milliseconds(round(end)):>{_LABEL_LEN - 2}} │"
        f"{'█' * round(count / most * room) or ('▏' if count else '')} {count or ''}".rstrip()
        for (start, end), count in zip(pairwise(borders), counts)
    ]


class Screen:
    """The live picture: with `plot` charts and a histogram, else a line for each target."""

    def __init__(self, session: Ping | ProbePing, *, plot: bool) -> None:
        from rich.live import Live

        from rawkit.cli.output import console

        self._session = session
        self._plot = plot
        self._values: dict[str, deque[int | None]] = {
            str(target.address): deque(maxlen=_KEPT_N) for target in session.targets
        }
        self._drawn_ns = 0
        # A thread of rich's would look at the session while events change it.
        self._live = Live(console=console(), auto_refresh=False, vertical_overflow="ellipsis")

    def __enter__(self) -> Screen:
        self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.update(self._draw(), refresh=True)
        self._live.stop()

    def add(self, event: PingEvent) -> None:
        """One more event; the picture is drawn twenty times a second at most."""
        import time

        from rawkit.tools.ping import PingReply

        if not isinstance(event, PingReply):
            values = self._values.setdefault(event.address, deque(maxlen=_KEPT_N))
            values.append(None)
        elif not event.duplicate:
            values = self._values.setdefault(event.address, deque(maxlen=_KEPT_N))
            values.append(event.rtt_ns)
        now_ns = time.monotonic_ns()
        if now_ns - self._drawn_ns >= _EVERY_NS:
            self._drawn_ns = now_ns
            self._live.update(self._draw(), refresh=True)

    def _draw(self) -> RenderableType:
        from rich.text import Text

        size = self._live.console.size
        summaries = self._session.summaries
        lines: list[str] = []
        if not self._plot:
            lines = [running_line(summary) for summary in summaries]
        else:
            alone = len(summaries) == 1
            room = size.height - 3 - (_HISTOGRAM_ROWS + 1 if alone else 0)
            height = min(max(room // len(self._values) - 1, 2), 12)
            for summary in summaries:
                lines += [running_line(summary)]
            for address, values in self._values.items():
                lines += [
                    "",
                    f"{address}: milliseconds, last {len(values)}",
                    *columns(values, size.width, height),
                ]
                if alone:
                    lines += ["", *histogram(values, size.width)]
        return Text("\n".join(lines[: size.height - 1]), no_wrap=True, overflow="crop")
