"""Time functions that do the same in turn, so that a busy moment hits all of them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping

REPEATS = 15


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
