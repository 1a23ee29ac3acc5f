"""How fast do sweeps find who is alive, beside fping, and how exact are round-trip times, beside iputils?

Between the hosts of a private lab, taking turns. Sweeps: 65,280 addresses, all of which answer, 5 times;
targets per second are what the command itself says of the time from its first request to its last answer,
"whole command" is with start-up and all; more is better, and `exact` says how often all were found alive
and none lost. The C limit (limit_probe.c) is what the kernel allows two threads that do nothing but send
the requests and receive as many answers. Round-trip times: medians of 500 requests 2 ms apart, as the
commands print them, medians of 5; less is better.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

from _compare import RAWKIT, ProbeLimit, go_first

from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Host, Lab
from rawkit.wire import Ether, ICMPEcho, IPv4

REPEATS = 5
N = 65280
FIRST, LAST = "10.78.1.0", "10.78.255.255"
COMMAND = [RAWKIT, "ping"]


def main() -> None:
    go_first()
    become_namespace_root()
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        lab.b.run(["ip", "route", "add", "local", "10.78.0.0/16", "dev", "lo"], check=True)
        lab.a.run(["ip", "route", "add", "10.78.0.0/16", "via", str(lab.b.ipv4)], check=True)
        request = Ether(dst=lab.b.mac, src=lab.a.mac) / IPv4(src=lab.a.ipv4, dst=FIRST) / ICMPEcho(id=1)
        sweeps(lab.a, ProbeLimit(directory), bytes(request / bytes(56)))
        round_trips(lab.a, str(lab.b.ipv4))


def sweeps(host: Host, limit: ProbeLimit, request: bytes) -> None:
    sides = {
        "rawkit": [*COMMAND, "-q", "-g", FIRST, LAST],
        "fping -i 0 -r 0": ["fping", "-qs", "-r0", "-t1000", "-i0", "-g", FIRST, LAST],
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    whole: dict[str, list[float]] = {name: [] for name in sides}
    exact = dict.fromkeys(sides, 0)
    limits = []
    for _ in range(REPEATS):
        if limit.there:
            limits.append(N / limit.seconds(host, "veth0", request, N))
        for name, argv in sides.items():
            if not there("sweep", name, argv):
                return
            start = time.perf_counter()
            done = host.run(argv, capture_output=True, text=True, timeout=60)
            whole[name].append(N / (time.perf_counter() - start))
            text = done.stdout + done.stderr
            if name == "rawkit":
                rates[name].append(float(re.findall(r"\(([\d,]+) targets/s", text)[0].replace(",", "")))
                exact[name] += f"{N} targets, {N} alive, 0 not" in text
            else:
                rates[name].append(N / float(re.findall(r"([\d.]+) sec \(elapsed real", text)[0]))
                exact[name] += f"{N} alive" in text
    for case, took in (("sweep of 65,280", rates), ("sweep of 65,280, whole command", whole)):
        mine, theirs = (statistics.median(took[name]) for name in sides)
        row = {"bench": "ping", "case": case, "rawkit": round(mine), "peer": round(theirs)}
        row |= {"peer_name": "fping -i 0 -r 0", "unit": "targets/s", "ratio": round(mine / theirs, 2)}
        row |= {name: f"{exact[side]}/{REPEATS}" for name, side in zip(("exact", "peer_exact"), sides)}
        print(json.dumps(row), flush=True)
        if took is rates and limits:
            peer = statistics.median(limits)
            row |= {"peer": round(peer), "peer_name": "C limit", "ratio": round(mine / peer, 2)}
            del row["peer_exact"]
            print(json.dumps(row), flush=True)


def round_trips(host: Host, target: str) -> None:
    often = ["-i", "0.002", "-c", "500", target]
    sides: dict[str, tuple[list[str], Callable[[str], float]]] = {
        "rawkit": ([*COMMAND, "-q", "--json", *often], json_median),
        "ping": (["ping", "-n", *often], printed_median),
        "fping -C": (["fping", "-q", "-C", "500", "-p", "2", target], fping_median),
    }
    took: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, (argv, read) in sides.items():
            if shutil.which(argv[0]) is not None:
                done = host.run(argv, capture_output=True, text=True, timeout=60)
                took[name].append(read(done.stdout or done.stderr))
    mine = statistics.median(took["rawkit"])
    for name, (argv, _) in sides.items():
        if name != "rawkit" and there("round-trip time", name, argv):
            peer = statistics.median(took[name])
            row = {
                "bench": "ping",
                "case": "round-trip time",
                "rawkit": round(mine, 1),
                "peer": round(peer, 1),
            }
            print(
                json.dumps(row | {"peer_name": name, "unit": "us", "ratio": round(peer / mine, 2)}),
                flush=True,
            )


def there(case: str, name: str, argv: list[str]) -> bool:
    """Whether a program is installed; says so where not."""
    if shutil.which(argv[0]) is not None:
        return True
    print(json.dumps({"bench": "ping", "case": case, "peer_name": name, "missing": "not installed"}))
    return False


def json_median(text: str) -> float:
    return float(json.loads(text.splitlines()[-1])["median_ns"]) / 1e3


def printed_median(text: str) -> float:
    return statistics.median(float(found) * 1e3 for found in re.findall(r"time=([\d.]+) ms", text))


def fping_median(text: str) -> float:
    return statistics.median(
        float(found) * 1e3 for found in re.findall(r" (\d+\.\d+)", text.split(" : ")[-1])
    )


if __name__ == "__main__":
    main()
