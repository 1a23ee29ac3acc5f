"""How exactly in time does a replay go, beside tcpreplay, scapy and plain loops in C?

A capture of 10,000 frames at equal gaps goes from one host of a private lab to the other, each tool in its
turn; medians of 3 repeats, less is better. The receiving kernel's time stamps say how far each gap is from
the capture's (median and 99th percentile), and by how much the whole is too long: tools that add up their
errors drift. On a veth pair these stamps are taken within the sender's system call. limit_pace.c does nothing
but send at absolute moments, spinning or sleeping. "what it says itself" is how late frames went by the
replay's own report (99th percentile), beside what the stamps say. Prints one JSON object per line.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from _compare import RAWKIT

from rawkit.engine import FrameBatch, PacketSocket
from rawkit.engine.namespace import become_namespace_root
from rawkit.errors import RawkitError
from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame

REPEATS = 3
COUNT = 10_000
CASES = {"1 ms gaps": 1_000_000, "100 us gaps": 100_000}
LOCAL = 0x88B5  # EtherType for local experiments
SCAPY = (
    "from scapy.all import conf, rdpcap, sendp; sendp(rdpcap({!r}), iface='veth0', realtime=True, verbose=0)"
)
LIMIT = Path(__file__).parent / "limit_pace.c"
START_NS = 1_700_000_000 * 10**9
SPINNING = ("limit_pace spin", "tcpreplay", "tcpreplay --timer=nano", "scapy sendp(realtime=True)")


class Run(NamedTuple):
    """Microseconds, by the receiver; and how late frames went, by the replay and by the receiver."""

    median: float
    p99: float
    drift: float
    said: float = 0.0
    seen: float = 0.0


def main() -> None:
    with suppress(PermissionError):
        # Whatever else runs here, all sides get a processor when they want one: children inherit it.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    become_namespace_root()
    with Lab() as lab, tempfile.TemporaryDirectory() as directory:
        limit = Path(directory, "limit")
        subprocess.run(["cc", "-O2", "-o", limit, LIMIT], check=True)
        frame = bytes(lab.b.mac) + bytes(lab.a.mac) + LOCAL.to_bytes(2, "big") + bytes(46)
        for case, gap_ns in CASES.items():
            path = str(Path(directory, f"{gap_ns}.pcap"))
            with create_pcap(path) as writer:
                for i in range(COUNT):
                    writer.write(Frame(frame, time_ns=START_NS + i * gap_ns))
            compare(lab, case, path, gap_ns, [str(limit), "veth0", frame.hex(), str(COUNT), str(gap_ns)])


def compare(lab: Lab, case: str, path: str, gap_ns: int, limit: list[str]) -> None:
    replay = [RAWKIT, "replay", path, "-i", "veth0", "--json"]
    commands = {
        "rawkit": replay,
        "rawkit --no-spin": [*replay, "--no-spin"],
        "limit_pace spin": [*limit, "spin"],
        "limit_pace sleep": [*limit, "sleep"],
        "tcpreplay": ["tcpreplay", "-i", "veth0", path],
        "tcpreplay --timer=nano": ["tcpreplay", "-i", "veth0", "--timer=nano", path],
        "scapy sendp(realtime=True)": [sys.executable, "-c", SCAPY.format(path)],
    }
    if not shutil.which("tcpreplay"):
        print("tcpreplay: not installed")
        commands = {name: argv for name, argv in commands.items() if argv[0] != "tcpreplay"}
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(REPEATS):
        for name, argv in commands.items():
            runs[name].append(measure(lab, argv, gap_ns))
    for what in ("median", "p99", "drift"):
        label = {"median": "error of a gap", "p99": "error of a gap, p99", "drift": "whole too long by"}[what]
        for name in SPINNING:
            if name in runs:
                tell(f"{case}, {label}", middle(runs["rawkit"], what), middle(runs[name], what), name)
        sleeping = middle(runs["rawkit --no-spin"], what), middle(runs["limit_pace sleep"], what)
        tell(f"{case}, no spinning, {label}", *sleeping, "limit_pace sleep")
    said, seen = middle(runs["rawkit"], "said"), middle(runs["rawkit"], "seen")
    tell(f"{case}, what it says itself", said, seen, "the receiver's kernel")


def middle(runs: list[Run], what: str) -> float:
    return statistics.median(abs(getattr(run, what)) for run in runs)


def tell(case: str, mine: float, theirs: float, name: str) -> None:
    line: dict[str, object] = {"bench": "replay", "case": case, "rawkit": round(mine, 2)}
    line |= {"peer": round(theirs, 2), "peer_name": name, "unit": "us", "ratio": round(theirs / mine, 2)}
    print(json.dumps(line), flush=True)


def measure(lab: Lab, argv: list[str], gap_ns: int) -> Run:
    times, output = arrivals(lab, argv)
    errors = sorted(abs(later - earlier - gap_ns) / 1000 for earlier, later in pairwise(times))
    drift = (times[-1] - times[0] - (COUNT - 1) * gap_ns) / 1000
    run = Run(statistics.median(errors), errors[len(errors) * 99 // 100], drift)
    if "--json" not in argv:
        return run
    report = json.loads(output.splitlines()[-1])
    late = sorted((at - report["start_ns"] - i * gap_ns) / 1000 for i, at in enumerate(times))
    return run._replace(said=report["timing_error"]["p99_ns"] / 1000, seen=late[len(late) * 99 // 100])


def arrivals(lab: Lab, argv: list[str]) -> tuple[list[int], str]:
    """When the receiving kernel saw each frame of a command, in nanoseconds, and what the command printed."""
    batch = FrameBatch(1024, 1 << 20)
    times: list[int] = []
    with (
        PacketSocket("veth0", protocol=LOCAL, buffer_len=64 << 20, namespace=lab.b.namespace) as sock,
        lab.a.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        output, said = process.communicate(timeout=120)
        while sock.receive(batch, 0.1):
            times += [record.time_ns for record in batch.records()]
    if process.returncode or len(times) != COUNT:
        raise RawkitError(f"{argv[0]}: {len(times)} of {COUNT} frames arrived: {said}")
    return times, output


if __name__ == "__main__":
    main()
