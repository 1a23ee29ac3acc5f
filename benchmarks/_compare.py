"""Time functions that do the same in turn, so that a busy moment hits all of them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping

REPEATS = 5


def compare(
    bench: str, case: str, sides: Mapping[str, Callable[[], object]], rounds: Mapping[str, int]
) -> None:
    """Print one line for each peer of `sides["rawkit"]`: microseconds a packet, medians of REPEATS.

    `rounds` is how often a side's function runs in one repeat. What the functions give back must be the same.
    """
    results = {name: run() for name, run in sides.items()}  # imports and warms up, too
    for name, result in results.items():
        if result != results["rawkit"]:
            raise SystemExit(f"{case}: {name} gives {result!r}, rawkit {results['rawkit']!r}")
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, run in sides.items():
            start = time.perf_counter()
            for _ in range(rounds[name]):
                run()
            took[name].append((time.perf_counter() - start) / rounds[name] * 1e6)
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
