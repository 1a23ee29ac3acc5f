"""How long does one Internet checksum take: from Python beside dpkt and scapy, in C beside an AVX2 loop?

Prints one JSON object per line; `rawkit` and `peer` are nanoseconds per call (medians of 5 repeats, the
two taking turns), `ratio` is how many times faster rawkit is. A peer that is not installed is named. The
AVX2 loop is limit_checksum.c, which is compiled here: what this processor could do, without a call from
Python.
"""

from __future__ import annotations

import importlib
import json
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
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


def in_c(length: int) -> None:
    """The engine's C beside the shortest AVX2 loop, in one program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    flags = Path("/proc/cpuinfo").read_text(encoding="ascii") if platform.machine() == "x86_64" else ""
    if compiler is None or " avx2 " not in flags:
        reason = "no C compiler" if compiler is None else "this processor has no AVX2"
        print(json.dumps({"bench": "checksum", "peer_name": "AVX2 loop in C", "missing": reason}))
        return
    here = Path(__file__).resolve().parent
    csrc = here.parent / "csrc"
    sources = [here / "limit_checksum.c", csrc / "rk_csum.c", csrc / "rk_cpu.c"]
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "limit_checksum"
        subprocess.run([compiler, "-O3", f"-I{csrc}", *sources, "-o", program], check=True)
        argv = [program, str(length), str(1_000_000), str(REPEATS)]
        lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()
    took: dict[str, list[float]] = {}
    for line in lines:
        name, _, value = line.partition(" ")
        took.setdefault(name, []).append(float(value))
    print_row(
        f"{length} octets, C", *map(statistics.median, (took["rawkit"], took["limit"])), "AVX2 loop in C"
    )


def print_row(case: str, ours: float, theirs: float, name: str) -> None:
    row: dict[str, object] = {"bench": "checksum", "case": case, "rawkit": round(ours, 1)}
    row |= {"peer": round(theirs, 1), "peer_name": name, "unit": "ns", "ratio": round(theirs / ours, 2)}
    print(json.dumps(row), flush=True)


def main() -> None:
    source = random.Random(1)
    for name, (module, function) in PEERS.items():
        try:
            peer: Any = getattr(importlib.import_module(module), function)
        except ImportError as missing:
            print(json.dumps({"bench": "checksum", "peer_name": name, "missing": str(missing)}))
            continue
        for length in LENGTHS:
            print_row(f"{length} octets", *compare(peer, source.randbytes(length)), name)
    in_c(1500)


if __name__ == "__main__":
    main()
