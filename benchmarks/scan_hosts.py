"""How long does it take to find out who is there, and which IP protocols a host speaks: rawkit beside nmap?

4,096 addresses behind a router, of which half answer an echo request and half nothing at all; and the 256
protocols of a Linux host that does not limit its ICMP errors. Whole commands with their defaults, medians of
3, taking turns; seconds, less is better. `exact` says in how many of the runs a side found just what is
there.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
from collections.abc import Callable

from _compare import RAWKIT

from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Lab
from rawkit.lab.setup import set_sysctls

REPEATS = 3
NETWORK, THERE, COUNT = "10.78.0.0/20", "10.78.0.0/21", 2048
PROTOCOLS = {1, 6, 17}
UNLIMITED = {"ratelimit": "0", "msgs_per_sec": "100000", "msgs_burst": "100000"}
COMMAND = [RAWKIT, "scan"]


def main() -> None:
    become_namespace_root()
    with Lab() as lab:
        for argv in (f"local {THERE} dev lo", "blackhole 10.78.8.0/21"):
            lab.b.run(["ip", "route", "add", *argv.split()], check=True)
        lab.a.run(["ip", "route", "add", NETWORK, "via", str(lab.b.ipv4)], check=True)
        with lab.b:
            set_sysctls({f"net/ipv4/icmp_{name}": value for name, value in UNLIMITED.items()})
        target = str(lab.b.ipv4)
        compare(
            lab,
            "who of 4,096 is there",
            {"rawkit": [*COMMAND, "-sn", NETWORK], "nmap": ["nmap", "-sn", "-n", "-oG", "-", NETWORK]},
            lambda text: len(re.findall(r"^10\.78\.|Status: Up", text, re.MULTILINE)) == COUNT,
        )
        compare(
            lab,
            "256 protocols of a host",
            {"rawkit": [*COMMAND, "-sO", target], "nmap": ["nmap", "-sO", "-n", "-Pn", target]},
            lambda text: (
                set(map(int, re.findall(r"^(\d+)(?:/ip)? +open +", text, re.MULTILINE))) == PROTOCOLS
            ),
        )


def compare(lab: Lab, case: str, sides: dict[str, list[str]], right: Callable[[str], bool]) -> None:
    took: dict[str, list[float]] = {name: [] for name, argv in sides.items() if shutil.which(argv[0])}
    exact = dict.fromkeys(took, 0)
    for _ in range(REPEATS):
        for name in took:
            start = time.perf_counter()
            text = lab.a.run(sides[name], capture_output=True, text=True, timeout=120).stdout
            took[name].append(time.perf_counter() - start)
            exact[name] += right(text)
    row: dict[str, object] = {"bench": "scan_hosts", "case": case, "peer_name": "nmap"}
    if "nmap" not in took:
        print(json.dumps(row | {"missing": "not installed"}), flush=True)
        return
    mine, peer = statistics.median(took["rawkit"]), statistics.median(took["nmap"])
    row |= {"rawkit": round(mine, 2), "peer": round(peer, 2), "unit": "s", "ratio": round(peer / mine, 2)}
    row |= {"exact": f"{exact['rawkit']}/{REPEATS}", "peer_exact": f"{exact['nmap']}/{REPEATS}"}
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
