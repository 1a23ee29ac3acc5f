"""How fast does a file of frames of all sizes leave, beside tcpreplay -K?

UDP datagrams of 60, 576 and 1514 octets (three, one and one of five) from one host of a private lab to the
other, whose interface has GRO on. rawkit reads and rewrites the file meanwhile; tcpreplay -K has it in memory
before its clock starts. Both tell their own rate; medians of 5 repeats, taking turns; frames per second, more
is better. "memory" is what a replay of the file six times over, 1.1 GB of frames, has at most of it
(resident, in MB), beside one of a hundredth of that; neither can be less than this script has. Prints one
JSON object per line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

from _compare import RAWKIT, go_first

from rawkit.engine import FrameBatch
from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.wire import UDP, Ether, IPv4

FRAMES = 400_000
REPEATS = 5
LENS = (60, 60, 576, 60, 1514)


def write(path: Path, lab: Lab) -> None:
    link = Ether(src=lab.a.mac, dst=lab.b.mac) / IPv4(src="10.0.0.1", dst="10.0.0.2")
    frames = [bytes(link / UDP(sport=i, dport=9) / bytes(LENS[i % len(LENS)] - 42)) for i in range(1000)]
    batch = FrameBatch(len(frames), sum(map(len, frames)))
    batch.extend(frames, time_ns=1_700_000_000 * 10**9)
    with create_pcap(path, linktype=1) as writer:
        for _ in range(FRAMES // len(frames)):
            writer.write_batch(batch)


def rate(lab: Lab, command: list[str]) -> float:
    done = lab.a.run(command, capture_output=True, text=True, check=True)
    if command[0] == "tcpreplay":
        found = re.search(r"([\d.]+) pps", done.stdout)
        assert found is not None
        return float(found[1])
    return float(json.loads(done.stdout.splitlines()[-1])["pps"])


def memory(lab: Lab, command: list[str]) -> float:
    """What a command has of it at most, in MB."""
    with lab.a.spawn(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    if status:
        raise RuntimeError(f"{command}: exit status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1000


def main() -> None:
    go_first()
    become_namespace_root()
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "mixed.pcap")
        write(path, lab)
        if shutil.which("ethtool"):
            lab.b.run(["ethtool", "-K", "veth0", "gro", "on"], check=True)
        replay = [RAWKIT, "replay", str(path), "-i", "veth0", "-t", "--json"]
        sides = {
            "packet": [*replay, "--backend", "packet"],
            "packet, other addresses": [*replay, "--backend", "packet", "--map", "10.0.0.0/8=192.168.0.0/16"],
            "af-xdp": [*replay, "--backend", "af-xdp"],
            "af-xdp, other addresses": [*replay, "--backend", "af-xdp", "--map", "10.0.0.0/8=192.168.0.0/16"],
            "xdp": [*replay, "--backend", "xdp"],
            "tcpreplay": ["tcpreplay", "-K", "-t", "-i", "veth0", str(path)],
        }
        rates: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            for name, command in sides.items():
                try:
                    rates.setdefault(name, []).append(rate(lab, command))
                except (OSError, subprocess.CalledProcessError) as error:
                    print(
                        json.dumps({"bench": "replay_speed", "peer_name": name, "missing": str(error)[:99]})
                    )
        once = [*replay, "--backend", "packet"]
        row = {"bench": "replay_speed", "case": "memory", "peer_name": "a hundredth of it", "unit": "MB"}
        row["rawkit"] = round(memory(lab, [*once, "-l", "6"]), 1)
        row["peer"] = round(memory(lab, [*once, "-L", str(FRAMES * 6 // 100)]), 1)
        print(json.dumps(row), flush=True)
    if "tcpreplay" not in rates:
        raise SystemExit("replay_speed: nothing to compare with")
    theirs = statistics.median(rates["tcpreplay"])
    for name in list(sides)[:-1]:
        if rates.get(name):
            mine = statistics.median(rates[name])
            row = {"bench": "replay_speed", "case": name, "rawkit": round(mine), "peer": round(theirs)}
            row |= {"peer_name": "tcpreplay -K", "unit": "frames/s", "ratio": round(mine / theirs, 2)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
