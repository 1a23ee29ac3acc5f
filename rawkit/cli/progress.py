"""A line on the terminal that says how far a scan is, beside whatever the command writes."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawkit.tools.scan import Scan

_FIRST, _EVERY = 1.0, 0.25  # seconds; a short scan shows none
_CLEAR = "\r\x1b[K"


class Progress:
    """Rewrites a line on standard error, where that is a terminal, until stopped."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._shown = False
        self._thread = threading.Thread(target=self._run, name="rawkit scan progress", daemon=True)
        if sys.stderr.isatty():
            self._thread.start()

    def _run(self) -> None:
        start = time.monotonic()
        wait = _FIRST
        while not self._stopped.wait(wait):
            wait = _EVERY
            text = line(self._scan, time.monotonic() - start)
            with self._lock:
                if not self._stopped.is_set():
                    sys.stderr.write(_CLEAR + text)
                    sys.stderr.flush()
                    self._shown = True

    def clear(self) -> None:
        """Make room for what is about to be written."""
        if self._shown:
            with self._lock:
                sys.stderr.write(_CLEAR)
                sys.stderr.flush()
                self._shown = False

    def stop(self) -> None:
        self._stopped.set()
        self.clear()


def line(scan: Scan, seconds: float) -> str:
    """How far a scan is after so many seconds, and when it will have ended if it goes on like that."""
    summary = scan.summary
    total = max((summary.targets - summary.down) * summary.ports, 1)
    known = summary.open + summary.closed + summary.filtered + summary.unfiltered + summary.open_filtered
    text = f"{known / total:.0%} of {total} ports known, {summary.open} open; {summary.probes} probes"
    # What does not answer is known only at the end of a scan: probes tell how far it is.
    share = max(known / total, min(summary.probes / (total * (scan.config.retries + 1)), 0.99))
    if share > 0.01:
        text += f"; about {seconds * (1 - share) / share:.0f} s left"
    return text
