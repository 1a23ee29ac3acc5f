"""How long does one Internet checksum take from Python: rawkit's C engine, dpkt and scapy?

Prints one JSON object per line; `rawkit` and `peer` are nanoseconds per call (medians of 5 repeats, the two
taking turns), `ratio` is how many times faster rawkit is. A peer that is not installed is named.
"""

from __future__ import annotations

import importlib
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from rawkit.engine.checksum import checksum

LENGTHS = (20, 1500, 65535)
REPEATS = 5
REPEAT_NS = 50_000_000
PEERS = {"dpkt": ("dpkt.dpkt", "in_cksum"), "scapy": ("scapy.utils", "checksum")}


def nanoseconds(call: Callable[[bytes], int], data: bytes, n: int) -> float:
    """Mean time of one call, in a run of `n`."""
    rounds = range(n)
    start = time.perf_counter_ns()
    for _ in rounds:
        call(data)
    return (time.perf_counter_ns() - start) / n


def calls_in(call: Callable[[bytes], int], data: bytes, budget_ns: int) -> int:
    """How many calls take about `budget_ns`."""
    return max(1, int(budget_ns / nanoseconds(call, data, 10)))


def compare(peer: Callable[[bytes], int], data: bytes) -> tuple[float, float]:
    """Medians for rawkit and the peer, in nanoseconds per call."""
    if checksum(data) != peer(data):
        raise SystemExit(f"the peer disagrees on {len(data)} octets")
    ours_n, theirs_n = calls_in(checksum, data, REPEAT_NS), calls_in(peer, data, REPEAT_NS)
    ours, theirs = [], []
    for _ in range(REPEATS):
        ours.append(nanoseconds(checksum, data, ours_n))
        theirs.append(nanoseconds(peer, data, theirs_n))
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    source = random.Random(1)
    for name, (module, function) in PEERS.items():
        try:
            peer: Any = getattr(importlib.import_module(module), function)
        except ImportError as missing:
            print(json.dumps({"bench": "checksum", "peer_name": name, "missing": str(missing)}))
            continue
        for length in LENGTHS:
            ours, theirs = compare(peer, source.randbytes(length))
            row = {
                "bench": "checksum",
                "case": f"{length} octets",
                "rawkit": round(ours, 1),
                "peer": round(theirs, 1),
                "peer_name": name,
                "unit": "ns",
                "ratio": round(theirs / ours, 2),
            }
            print(json.dumps(row))


if __name__ == "__main__":
    main()
