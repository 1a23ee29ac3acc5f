"""How long until the first line of a script or a command does something?

`import rawkit`, the import of everything it has for packets, and `rawkit --help`, each in fresh interpreters,
beside scapy's import. Seconds, less is better: medians of 11 runs taking turns. Imports are timed inside the
interpreter; the command includes the interpreter's own start, for both.
Prints one JSON object per line; `ratio` is how many times faster rawkit is.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

RUNS = 11

TIMED = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"
CASES = {
    "import": "import rawkit",
    "import and use headers": "import rawkit; rawkit.Ether, rawkit.IPv4, rawkit.TCP",
}
PEER = "import scapy.all"


def imports(statement: str) -> float:
    """Seconds that a statement takes in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", TIMED.format(statement)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def command(*argv: str) -> float:
    """Seconds from starting a Python program to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *argv], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    calls: dict[str, Callable[[], float]] = {case: partial(imports, text) for case, text in CASES.items()}
    calls["--help"] = partial(command, "-P", "-m", "rawkit", "--help")
    calls["scapy import"] = partial(imports, PEER)
    calls["scapy command"] = partial(command, "-c", PEER)
    times: dict[str, list[float]] = {case: [] for case in calls}
    for call in calls.values():  # the first run writes byte code and warms the file cache
        call()
    for _ in range(RUNS):
        for case, call in calls.items():
            times[case].append(call())
    medians = {case: statistics.median(runs) for case, runs in times.items()}
    for case in [*CASES, "--help"]:
        peer = medians["scapy command" if case == "--help" else "scapy import"]
        line = {
            "bench": "startup",
            "case": case,
            "rawkit": round(medians[case], 4),
            "peer": round(peer, 4),
            "peer_name": PEER,
            "unit": "s",
            "ratio": round(peer / medians[case], 1),
        }
        print(json.dumps(line), flush=True)


main()
