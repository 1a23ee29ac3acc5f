"""What a terminal shows of a running scan, beside what the command writes: open ports, and how far it is."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rawkit.cli.output import escape

if TYPE_CHECKING:
    from rawkit.tools.scan import PortResult, Scan

_FIRST, _EVERY = 1.0, 0.25  # seconds; a short scan shows none
_ROWS_MAX = 10  # of open ports, the latest ones


class Progress:
    """Rewrites some lines on standard error, where that is a terminal, until stopped."""

    def __init__(self) -> None:
        self._found: deque[PortResult] = deque(maxlen=_ROWS_MAX)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._shown = 0  # lines

    def start(self, describe: Callable[[float], str]) -> None:
        """Show what `describe` says after so many seconds, from when it has taken one."""
        if sys.stderr.isatty():
            threading.Thread(target=self._run, args=(describe,), name="progress", daemon=True).start()

    def _run(self, describe: Callable[[float], str]) -> None:
        start = time.monotonic()
        wait = _FIRST
        while not self._stopped.wait(wait):
            wait = _EVERY
            how_far = describe(time.monotonic() - start)
            with self._lock:
                if not self._stopped.is_set():
                    self._show([*rows(tuple(self._found)), how_far])

    def _show(self, lines: list[str]) -> None:
        import shutil

        width, height = shutil.get_terminal_size()
        lines = [
            text[: width - 1] for text in lines[-max(height - 1, 1) :]
        ]  # what wraps cannot be taken back
        sys.stderr.write(self._back() + "\n".join(lines))
        sys.stderr.flush()
        self._shown = len(lines)

    def _back(self) -> str:
        """To the beginning of what is shown, and all of it gone."""
        up = f"\x1b[{self._shown - 1}A" if self._shown > 1 else ""
        return f"\r{up}\x1b[J"

    def found(self, result: PortResult) -> None:
        """A result is known."""
        if result.state == "open":
            self._found.append(result)

    def clear(self) -> None:
        """Make room for what is about to be written."""
        if self._shown:
            with self._lock:
                sys.stderr.write(self._back())
                sys.stderr.flush()
                self._shown = 0

    def stop(self) -> None:
        self._stopped.set()
        self.clear()


def rows(found: tuple[PortResult, ...]) -> list[str]:
    """A line for each open port."""
    width = max((len(str(result.address)) for result in found), default=0)
    return [
        escape(f"{result.address!s:<{width}}  {f'{result.port}/{result.protocol}':<10}  {result.reason}")
        for result in found
    ]


def line(scan: Scan, seconds: float) -> str:
    """How far a scan is after so many seconds, and when it will have ended if it goes on like that."""
    summary = scan.summary
    total = max((summary.targets - summary.down) * summary.ports, 1)
    known = summary.open + summary.closed + summary.filtered + summary.unfiltered + summary.open_filtered
    if not known and scan.looking:
        return f"looking who is there; {summary.probes} probes"
    text = f"{known / total:.0%} of {total} ports known, {summary.open} open; {summary.probes} probes"
    # What does not answer is known only at the end of a scan: probes tell how far it is.
    share = max(known / total, min(summary.probes / (total * (scan.config.retries + 1)), 0.99))
    if share > 0.01:
        text += f"; about {seconds * (1 - share) / share:.0f} s left"
    return text
