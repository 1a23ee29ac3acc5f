"""Time what does the same in turn, so that a busy moment hits all sides."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawkit.lab import Host

REPEATS = 15
RAWKIT = str(Path(sys.executable).with_name("rawkit"))
"""The command as people type it, of the rawkit that is installed beside this interpreter."""


def go_first() -> None:
    """Whatever else runs here, all sides get a processor when they want one: children inherit it."""
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


class ProbeLimit:
    """limit_probe.c: how long the kernel alone takes for requests and their answers."""

    def __init__(self, directory: str) -> None:
        self.there = shutil.which("cc") is not None
        self._program = Path(directory) / "limit_probe"
        if self.there:
            source = Path(__file__).parent / "limit_probe.c"
            subprocess.run(["cc", "-O2", "-pthread", "-o", self._program, source], check=True)

    def seconds(self, host: Host, interface: str, frame: bytes, n: int) -> float:
        """For n requests like `frame` from two threads, all of which have to be answered."""
        argv = [self._program, interface, frame.hex(), str(n), "2", "socket"]
        answers, seconds = host.run(argv, capture_output=True, text=True, check=True).stdout.split()
        if int(answers) != n // 2 * 2:
            raise SystemExit(f"limit_probe: {answers} answers to {n} requests")
        return float(seconds)


def compare(
    bench: str,
    case: str,
    sides: Mapping[str, Callable[[], object]],
    rounds: Mapping[str, int],
    same: Callable[[object], object] = lambda result: result,
) -> None:
    """Print one line for each peer of `sides["rawkit"]`: microseconds a packet, medians of REPEATS.

    `rounds` is how often a side's function runs in one repeat. What the functions give back must be the same,
    or made so by `same`.
    """
    results = {name: same(run()) for name, run in sides.items()}  # imports and warms up, too
    for name, result in results.items():
        if result != results["rawkit"]:
            raise SystemExit(f"{case}: {name} gives {result!r}, rawkit {results['rawkit']!r}")
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, run in sides.items():
            took[name].append(_seconds(run, rounds[name]) / rounds[name] * 1e6)
    mine = statistics.median(took["rawkit"])
    for name in sides:
        if name == "rawkit":
            continue
        theirs = statistics.median(took[name])
        line: dict[str, object] = {
            "bench": bench,
            "case": case,
            "rawkit": round(mine, 2),
            "peer": round(theirs, 2),
        }
        line |= {"peer_name": name, "unit": "us/packet", "ratio": round(theirs / mine, 2)}
        print(json.dumps(line), flush=True)


def nanoseconds(bench: str, case: str, run: Callable[[], object], rounds: int = 20000) -> None:
    """Print what a function takes beyond a function that does nothing: nanoseconds, medians of REPEATS."""
    took = [_seconds(run, rounds) - _seconds(lambda: None, rounds) for _ in range(REPEATS)]
    value = round(statistics.median(took) / rounds * 1e9, 1)
    print(json.dumps({"bench": bench, "case": case, "rawkit": value, "unit": "ns"}), flush=True)


def _seconds(run: Callable[[], object], rounds: int) -> float:
    # Of this process alone: what else the machine does is no part of it.
    start = time.process_time()
    for _ in range(rounds):
        run()
    return time.process_time() - start
