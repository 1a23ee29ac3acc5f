"""How soon is a path known: rawkit beside traceroute and mtr, through five routers of a private lab?

Whole commands, start-up and all, names not looked up, one probe a hop; seconds, less is better, medians of 3,
taking turns. `exact` says in how many of the runs a side named all the routers and
the target, in their order.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time

from _compare import RAWKIT

from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Lab, RoutedLab
from rawkit.lab.setup import set_sysctls

REPEATS = 3
ROUTERS = 5


def main() -> None:
    become_namespace_root()
    with Lab.chain(ROUTERS) as lab:
        for router in lab.routers:  # or each would tell of one probe a second only
            with router:
                set_sysctls({"net/ipv4/icmp_ratelimit": "0"})
        compare(lab)
        silent = lab.routers[2]
        silent.keep_silent()
        compare(lab, str(silent.ipv4))


def compare(lab: RoutedLab, silent: str = "") -> None:
    target = str(lab.b.ipv4)
    path = [str(router.ipv4) for router in lab.routers] + [target]
    wanted = [address for address in path if address != silent]
    sides = {
        "rawkit": [RAWKIT, "trace", "--report", "-q", "1", target],
        "traceroute": ["traceroute", "-n", "-q", "1", target],
        "mtr -c 1": ["mtr", "-n", "-r", "-w", "-c", "1", target],
    }
    case = f"{ROUTERS} routers" + (", one of them silent" if silent else "")
    took: dict[str, list[float]] = {name: [] for name, argv in sides.items() if shutil.which(argv[0])}
    exact = dict.fromkeys(sides, 0)
    for _ in range(REPEATS):
        for name in took:
            start = time.perf_counter()
            done = lab.a.run(sides[name], capture_output=True, text=True, timeout=60)
            took[name].append(time.perf_counter() - start)
            exact[name] += hops(done.stdout) == wanted
    mine = statistics.median(took["rawkit"])
    for name in sides:
        row: dict[str, object] = {"bench": "trace", "case": case, "peer_name": name}
        if name not in took:
            print(json.dumps(row | {"missing": "not installed"}), flush=True)
        elif name != "rawkit":
            peer = statistics.median(took[name])
            row |= {
                "rawkit": round(mine, 2),
                "peer": round(peer, 2),
                "unit": "s",
                "ratio": round(peer / mine, 2),
            }
            row |= {"exact": f"{exact['rawkit']}/{REPEATS}", "peer_exact": f"{exact[name]}/{REPEATS}"}
            print(json.dumps(row), flush=True)


def hops(text: str) -> list[str]:
    """The first address of each numbered line."""
    lines = re.findall(r"^ *\d+[.|\- ]+(.*)$", text, re.MULTILINE)
    found = [re.findall(r"\d+\.\d+\.\d+\.\d+", line) for line in lines]
    return [addresses[0] for addresses in found if addresses]


if __name__ == "__main__":
    main()
