"""How many open ports does a scan miss where packets get lost, and does it know?

One port of 8,192 addresses, all open, behind a link that loses 5 % each way, holds frames for 20 ms and
lets 20,000 pass in a second, scanned by rawkit, nmap and masscan. Whole commands with their defaults
(masscan at the link's rate), three runs with other losses each. Seconds, less is better, medians; `found`
is how many ports each run found, and `missed` how many rawkit did not find and between which numbers it
said that would be.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import statistics
import subprocess
import time
from contextlib import ExitStack

from _compare import RAWKIT

from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Lab

RUNS = 3
LIMIT = 90
"""Seconds after which a command is ended."""
NETWORK = "10.78.0.0/19"
COUNT = 8192
COMMAND = [RAWKIT, "scan"]


def main() -> None:
    become_namespace_root()
    took: dict[str, list[float]] = {}
    found: dict[str, list[int]] = {}
    believed: list[str] = []
    for seed in range(RUNS):
        with Lab(delay="20ms", loss=0.05, seed=seed, rate=20_000) as lab, ExitStack() as stack:
            lab.b.run(["ip", "route", "add", "local", NETWORK, "dev", "lo"], check=True)
            lab.a.run(["ip", "route", "add", NETWORK, "via", str(lab.b.ipv4)], check=True)
            with lab.b:
                stack.enter_context(socket.create_server(("0.0.0.0", 80)))
            masscan = ["masscan", "--rate", "20000", "--wait", "1", "--router-mac", str(lab.b.mac)]
            masscan += ["-oL", "-"]
            masscan += ["-e", "veth0", "--source-ip", str(lab.a.ipv4), "-p80", NETWORK]
            sides = {
                "rawkit": ([*COMMAND, NETWORK, "-p80", "--open"], r"^([\d.]+)\nPORT.*\n80/tcp +open\b"),
                "nmap": (["nmap", "-n", "-Pn", "-sS", "-p80", "-oG", "-", NETWORK], r"Host: (\S+) .*/open/"),
                "masscan": (masscan, r"^open \S+ \S+ (\S+)"),
            }
            for name, (argv, found_in) in sides.items():
                if shutil.which(argv[0]) is None:
                    continue
                start = time.perf_counter()
                try:
                    done = lab.a.run(argv, capture_output=True, text=True, timeout=LIMIT)
                except subprocess.TimeoutExpired:
                    why = f"did not end within {LIMIT} s"
                    row = {"bench": "scan_loss", "case": "a lossy bottleneck", "peer_name": name}
                    print(json.dumps(row | {"missing": why}), flush=True)
                    continue
                took.setdefault(name, []).append(time.perf_counter() - start)
                found.setdefault(name, []).append(len(set(re.findall(found_in, done.stdout, re.MULTILINE))))
                if name == "rawkit":
                    said = re.search(r"(\d+) to (\d+) open ports may", done.stderr)
                    low, high = (int(said[1]), int(said[2])) if said else (0, 0)
                    believed.append(f"{COUNT - found[name][-1]} in [{low}, {high}]")
    for name in took:
        if name != "rawkit":
            mine, peer = statistics.median(took["rawkit"]), statistics.median(took[name])
            row = {"bench": "scan_loss", "case": "a lossy bottleneck", "rawkit": round(mine, 2)}
            row |= {"peer": round(peer, 2), "peer_name": name, "unit": "s", "ratio": round(peer / mine, 2)}
            row |= {"of": COUNT, "found": found["rawkit"], "peer_found": found[name], "missed": believed}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
