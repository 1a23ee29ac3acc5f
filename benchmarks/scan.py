"""How long does a scan take, and does it find just what is there: rawkit beside nmap, masscan and zmap?

Whole commands, start-up and all, between the hosts of a private lab whose kernel answers at once: 65,535
ports of one host with 20 open, over the veth pair and over loopback, and one port of 65,536 addresses, each
of which answers and 66 of which are open. Seconds, less is better, medians of 5, taking turns; `exact` says
in how many of the runs a side found the open ports and nothing else. A ratio to a peer that is not exact
says nothing. The C limit (limit_probe.c) is what the kernel needs for two threads that do nothing but send
a SYN to each port and receive as many answers, without start-up.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from _compare import RAWKIT, ProbeLimit, go_first

from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Host, Lab
from rawkit.wire import TCP, Ether, IPv4

REPEATS = 5
LIMIT = 30
"""Seconds after which a command is ended."""
PORTS = {7 + 3271 * i for i in range(20)}
NETWORK = "10.78.0.0/16"
OPEN = {f"10.78.{i * 997 // 256 % 256}.{i * 997 % 256}" for i in range(66)}
COMMAND = [RAWKIT, "scan"]

Side = tuple[list[str], Callable[[str], set[str]]]


def main() -> None:
    go_first()
    become_namespace_root()
    with Lab() as lab, ExitStack() as stack, tempfile.TemporaryDirectory() as directory:
        ip(lab.b, "route add local", NETWORK, "dev lo")
        ip(lab.a, "route add", NETWORK, f"via {lab.b.ipv4}")
        for host in (lab.a, lab.b):
            with host:
                for port in PORTS:
                    listen(stack, "0.0.0.0", port)
        with lab.b:
            for address in OPEN:
                listen(stack, address, 80)
        router = str(lab.b.mac)
        wanted = {str(port) for port in PORTS}
        target = str(lab.b.ipv4)
        masscan = ["masscan", "--rate", "100000", "--wait", "1", "--router-mac", router, "-oL", "-"]
        masscan += ["-e", "veth0", "--source-ip", str(lab.a.ipv4)]
        sides = {
            "rawkit": ([*COMMAND, target, "-p-"], table_ports),
            "nmap -T4": (["nmap", "-n", "-Pn", "-sS", "-T4", "-p-", "-oG", "-", target], grepable_ports),
            "masscan": ([*masscan, "-p1-65535", target], list_ports),
        }
        syn = (
            Ether(dst=lab.b.mac, src=lab.a.mac)
            / IPv4(src=lab.a.ipv4, dst=target)
            / TCP(sport=40000, flags="S")
        )
        limit = ProbeLimit(directory)
        compare(lab.a, "65,535 ports of a host", sides, wanted, limit, bytes(syn))
        sides = {
            "rawkit": ([*COMMAND, "127.0.0.1", "-p-"], table_ports),
            "nmap -T4": (["nmap", "-n", "-Pn", "-sS", "-T4", "-p-", "-oG", "-", "127.0.0.1"], grepable_ports),
        }
        compare(lab.a, "65,535 ports over loopback", sides, wanted)
        fast = ["-T5", "--min-rate", "100000"]
        zmap = ["zmap", "-p", "80", "-r", "100000", "-c", "1", "-q", "-i", "veth0", "-G", router, "-o", "-"]
        zmap += ["-b", "/dev/null"]
        sides = {
            "rawkit": ([*COMMAND, NETWORK, "-p80", "--open"], table_hosts),
            "nmap -T5": (["nmap", "-n", "-Pn", "-sS", *fast, "-p80", "-oG", "-", NETWORK], grepable_hosts),
            "zmap": ([*zmap, NETWORK], lambda text: set(text.split())),
            "masscan": ([*masscan, "-p80", NETWORK], list_hosts),
        }
        compare(lab.a, "one port of 65,536 addresses", sides, OPEN)


def ip(host: Host, *words: str) -> None:
    host.run(["ip", *" ".join(words).split()], check=True)


def listen(stack: ExitStack, address: str, port: int) -> None:
    listener = stack.enter_context(socket.socket())
    listener.bind((address, port))
    listener.listen()


def table_ports(text: str) -> set[str]:
    return set(re.findall(r"^(\d+)/tcp +open\b", text, re.MULTILINE))


def table_hosts(text: str) -> set[str]:
    return set(re.findall(r"^([\d.]+)\nPORT.*\n80/tcp +open\b", text, re.MULTILINE))


def grepable_ports(text: str) -> set[str]:
    return set(re.findall(r"(\d+)/open/", text))


def grepable_hosts(text: str) -> set[str]:
    return set(re.findall(r"Host: (\S+) .*/open/", text))


def list_ports(text: str) -> set[str]:
    return {row.split()[2] for row in text.splitlines() if row.startswith("open")}


def list_hosts(text: str) -> set[str]:
    return {row.split()[3] for row in text.splitlines() if row.startswith("open")}


def compare(
    host: Host,
    case: str,
    sides: Mapping[str, Side],
    wanted: set[str],
    limit: ProbeLimit | None = None,
    probe: bytes = b"",
) -> None:
    """Print a line for each peer."""
    took: dict[str, list[float]] = {name: [] for name in sides}
    exact: dict[str, int] = dict.fromkeys(sides, 0)
    for name, (argv, _) in sides.items():
        if shutil.which(argv[0]) is None:
            print(json.dumps({"bench": "scan", "case": case, "peer_name": name, "missing": "not installed"}))
            del took[name]
    limits = []
    for _ in range(REPEATS):
        if limit is not None and limit.there:
            limits.append(limit.seconds(host, "veth0", probe, 65534))
        for name in list(took):
            argv, read = sides[name]
            start = time.perf_counter()
            try:
                output = host.run(argv, capture_output=True, text=True, timeout=LIMIT).stdout
            except subprocess.TimeoutExpired:  # masscan, where nothing more arrives
                why = f"did not end within {LIMIT} s"
                print(json.dumps({"bench": "scan", "case": case, "peer_name": name, "missing": why}))
                del took[name]
                continue
            took[name].append(time.perf_counter() - start)
            exact[name] += read(output) == wanted
    mine = statistics.median(took["rawkit"])
    for name in took:
        if name != "rawkit":
            peer = statistics.median(took[name])
            row = {"bench": "scan", "case": case, "rawkit": round(mine, 2), "peer": round(peer, 2)}
            row |= {"peer_name": name, "unit": "s", "ratio": round(peer / mine, 2)}
            row |= {"exact": f"{exact['rawkit']}/{REPEATS}", "peer_exact": f"{exact[name]}/{REPEATS}"}
            print(json.dumps(row), flush=True)
    if limits:
        peer = statistics.median(limits)
        row = {"bench": "scan", "case": case, "rawkit": round(mine, 2), "peer": round(peer, 2), "unit": "s"}
        print(json.dumps(row | {"peer_name": "C limit", "ratio": round(peer / mine, 2)}), flush=True)


if __name__ == "__main__":
    main()
