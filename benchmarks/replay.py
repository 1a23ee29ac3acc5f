"""How exactly in time does a replay go, beside tcpreplay and scapy?

A capture of steady gaps goes from one host of a private lab to the other, each tool in its turn; medians of 5
repeats, less is better. The receiving kernel's time stamps say how far each gap is from the capture's (the
median), and by how much the whole is too long: tools that add up their errors drift. On a veth pair these
stamps are taken within the sender's system call. Prints one JSON object per line.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from rawkit.engine import FrameBatch, PacketSocket
from rawkit.engine.namespace import become_namespace_root
from rawkit.errors import RawkitError
from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame

REPEATS = 5
CASES = {"1 ms gaps": (1_000_000, 1000), "100 us gaps": (100_000, 10_000)}
LOCAL = 0x88B5  # EtherType for local experiments
SCAPY = (
    "from scapy.all import conf, rdpcap, sendp; sendp(rdpcap({!r}), iface='veth0', realtime=True, verbose=0)"
)


def main() -> None:
    with suppress(PermissionError):
        # Whatever else runs here, all sides get a processor when they want one: children inherit it.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    become_namespace_root()
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        frame = bytes(lab.b.mac) + bytes(lab.a.mac) + LOCAL.to_bytes(2, "big") + bytes(46)
        for case, (gap_ns, count) in CASES.items():
            path = str(Path(directory, f"{gap_ns}.pcap"))
            with create_pcap(path) as writer:
                for i in range(count):
                    writer.write(Frame(frame, time_ns=1_700_000_000 * 10**9 + i * gap_ns))
            compare(lab, case, path, gap_ns, count)


def compare(lab: Lab, case: str, path: str, gap_ns: int, count: int) -> None:
    commands = {
        "rawkit": [sys.executable, "-P", "-m", "rawkit", "replay", path, "-i", "veth0"],
        "tcpreplay": ["tcpreplay", "-i", "veth0", path],
        "tcpreplay --timer=nano": ["tcpreplay", "-i", "veth0", "--timer=nano", path],
        "scapy sendp(realtime=True)": [sys.executable, "-c", SCAPY.format(path)],
    }
    if not shutil.which("tcpreplay"):
        print("tcpreplay: not installed")
        commands = {name: argv for name, argv in commands.items() if argv[0] != "tcpreplay"}
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, argv in list(commands.items()):
            times = arrivals(lab, argv, count)
            gaps = [later - earlier for earlier, later in pairwise(times)]
            off = statistics.median(abs(gap - gap_ns) for gap in gaps)
            drift = times[-1] - times[0] - (count - 1) * gap_ns
            errors[name].append((off / 1000, drift / 1000))
    mine = errors.pop("rawkit")
    measures: list[tuple[str, Callable[[tuple[float, float]], float]]] = [
        ("error of a gap", lambda pair: pair[0]),
        ("whole too long by", lambda pair: abs(pair[1])),
    ]
    for what, value in measures:
        ours = statistics.median(map(value, mine))
        for name, pairs in errors.items():
            theirs = statistics.median(map(value, pairs))
            line: dict[str, object] = {"bench": "replay", "case": f"{case}, {what}"}
            line |= {"rawkit": round(ours, 2), "peer": round(theirs, 2), "peer_name": name, "unit": "us"}
            print(json.dumps(line | {"ratio": round(theirs / ours, 2)}), flush=True)


def arrivals(lab: Lab, argv: list[str], count: int) -> list[int]:
    """When the receiving kernel saw each frame of a command, in nanoseconds."""
    batch = FrameBatch(1024, 1 << 20)
    times: list[int] = []
    with (
        PacketSocket("veth0", protocol=LOCAL, buffer_len=64 << 20, namespace=lab.b.namespace) as sock,
        lab.a.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process,
    ):
        said = process.communicate(timeout=60)[1]
        while sock.receive(batch, 0.1):
            times += [record.time_ns for record in batch.records()]
    if process.returncode or len(times) != count:
        raise RawkitError(f"{argv[0]}: {len(times)} of {count} frames arrived: {said.decode()}")
    return times


if __name__ == "__main__":
    main()
