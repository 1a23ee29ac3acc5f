"""How fast are the tools for capture files on one of five million packets, and how much memory do they take?

`rawkit pcap info`, `slice`, `split`, `stats` and `merge` as commands, their start included, beside
capinfos, editcap, tcpdump, tshark and mergecap doing the same job; and beside `cat FILE >/dev/null`, `cp`,
or `dd` in pieces of 128 KiB, which is what reading and writing the same octets costs at least (for a slice:
reading all, and writing as many as it has), where "from disk to disk" means that the file is not in memory
before, and the new one flushed after; else it is in the page cache. limit_copy.c does nothing but read, find
the records, look at their times, and write, in one thread or with a second one that writes: what no tool in
C could be faster than. 20,000 conversations, 140 octets a packet on average. Before each run as much memory
is used and freed as it needs for the new file: on a virtual machine, whose host takes back what is free, the
kernel would else wait for that now and then, for longer than for all the rest. Medians of 3 repeats, taking
turns; tshark gets a tenth of the packets. Packets per second, more is better; MiB of memory, less is better.
Prints one JSON object per line.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _compare import RAWKIT

PACKETS = int(os.environ.get("RAWKIT_BENCH_PACKETS", "5000000"))
REPEATS = 3
LENGTHS = (60, 66, 66, 74, 90, 120, 300, 340)
FLOWS = 20_000
LIMIT = Path(__file__).parent / "limit_copy.c"
AT_HAND = 320 * PACKETS  # octets, twice the file: free memory that the machine has got from its host


def make(path: Path, packets: int) -> None:
    """TCP and UDP over IPv4 between a few thousand hosts, in the order of time, without checksums."""
    rng = random.Random(7)
    flows = []
    for n in range(FLOWS):
        protocol = 17 if n % 4 == 0 else 6
        src, dst = struct.pack(">I", 0x0A000000 + n % 3000), struct.pack(">I", 0xC0000200 + n % 250)
        ports = struct.pack(">HH", 1024 + n, 53 if protocol == 17 else 443)
        flows.append((protocol, src, dst, ports))
    templates = []
    for protocol, src, dst, ports in flows:
        length = rng.choice(LENGTHS)
        ip = struct.pack(">BBHHHBBH", 0x45, 0, length - 14, 1, 0, 64, protocol, 0) + src + dst
        upper = ports + (
            struct.pack(">HH", length - 34, 0) if protocol == 17 else bytes(8) + b"\x50\x10" + bytes(6)
        )
        frame = (bytes(5) + b"\x02" + bytes(5) + b"\x01\x08\x00" + ip + upper).ljust(length, b"\x55")
        templates.append(struct.pack("<II", length, length) + frame)
    with path.open("wb") as file:
        file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        choose = rng.choices
        for start in range(0, packets, 10_000):
            rows = choose(templates, k=min(10_000, packets - start))
            parts = []
            for n, row in enumerate(rows, start):
                parts.append(struct.pack("<II", 1_700_000_000 + n // 20_000, n % 20_000 * 50))
                parts.append(row)
            file.write(b"".join(parts))


FETCH = f"""
import mmap
with mmap.mmap(-1, {AT_HAND}) as memory:
    for at in range(0, {AT_HAND}, mmap.PAGESIZE):
        memory[at] = 1
"""


def run(command: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and the most memory it had, in MiB."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def compare(case: str, sides: dict[str, tuple[list[str], int]], out: Path) -> None:
    """One line for each peer of the first side; a side has its command, and the packets it goes through."""
    rates: dict[str, list[float]] = {}
    memory: dict[str, float] = {}
    for name, (command, _) in list(sides.items()):
        if shutil.which(command[0]) is None:
            print(
                json.dumps({"bench": "pcap_tools", "peer_name": name, "missing": "not installed"}), flush=True
            )
            del sides[name]
    for _ in range(REPEATS):
        for name, (command, packets) in sides.items():
            for old in out.iterdir():
                old.unlink()
            # By another process: what this one had at most is taken for its children's too.
            subprocess.run([sys.executable, "-S", "-c", FETCH], check=True)
            took, most = run(command)
            rates.setdefault(name, []).append(packets / took)
            memory[name] = max(memory.get(name, 0), most)
    mine = statistics.median(rates["rawkit"])
    for name in sides:
        if name == "rawkit":
            continue
        theirs = statistics.median(rates[name])
        line: dict[str, object] = {
            "bench": "pcap_tools",
            "case": case,
            "rawkit": round(mine),
            "peer": round(theirs),
        }
        print(
            json.dumps(line | {"peer_name": name, "unit": "packets/s", "ratio": round(mine / theirs, 2)}),
            flush=True,
        )
    line = {
        "bench": "pcap_tools",
        "case": f"{case}, memory",
        "rawkit": round(memory["rawkit"], 1),
        "unit": "MiB",
    }
    print(json.dumps(line), flush=True)


def main() -> None:
    rawkit = [RAWKIT, "pcap"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out = folder / "out"
        out.mkdir()
        large, small = folder / "large.pcap", folder / "small.pcap"
        make(large, PACKETS)
        subprocess.run(["sync", large], check=True)  # else it cannot be dropped from memory
        make(small, PACKETS // 10)
        file, short, to = str(large), str(small), str(out / "out.pcap")
        tenth = PACKETS // 10
        cat = ["cat", file]
        copy = ["cp", file, to]
        pieces = ["dd", "status=none", "bs=128K", f"if={file}"]
        third_len = large.stat().st_size // (3 * 128 << 10)
        part = [*pieces, f"of={to}", f"skip={third_len}", f"count={third_len}"]
        theirs = f"{shlex.join(pieces)} of=/dev/null && {shlex.join(part)}"
        compare(
            "info",
            {
                "rawkit": ([*rawkit, "info", file], PACKETS),
                "capinfos": (["capinfos", file], PACKETS),
                "cat": (cat, PACKETS),
            },
            out,
        )
        limit = str(folder / "limit_copy")
        subprocess.run(["cc", "-O2", "-pthread", "-o", limit, LIMIT], check=True)
        octets = large.stat().st_size
        third, half = str(1_700_000_000 + PACKETS // 60_000), str(1_700_000_000 + PACKETS // 30_000)
        compare(
            "slice by time",
            {
                "rawkit": ([*rawkit, "slice", file, "--from", third, "--until", half, "-w", to], PACKETS),
                "editcap": (["editcap", "-F", "pcap", "-A", third, "-B", half, file, to], PACKETS),
                "dd": (["sh", "-c", theirs], PACKETS),
                "C limit, one thread": (
                    [limit, file, to, str(octets // 3), str(2 * octets // 3), "one"],
                    PACKETS,
                ),
                "C limit, two threads": (
                    [limit, file, to, str(octets // 3), str(2 * octets // 3), "two"],
                    PACKETS,
                ),
            },
            out,
        )
        compare(
            "slice by filter",
            {
                "rawkit": ([*rawkit, "slice", file, "udp and dst port 53", "-w", to], PACKETS),
                "tcpdump": (["tcpdump", "-Z", "root", "-r", file, "-w", to, "udp and dst port 53"], PACKETS),
                "tshark": (["tshark", "-n", "-F", "pcap", "-r", short, "-w", to, "udp.dstport == 53"], tenth),
            },
            out,
        )
        compare(
            "split by count",
            {
                "rawkit": ([*rawkit, "split", file, "-c", "500000", "-w", to], PACKETS),
                "editcap": (["editcap", "-F", "pcap", "-c", "500000", file, to], PACKETS),
                "cp": (copy, PACKETS),
                "dd": ([*pieces, f"of={to}"], PACKETS),
                "C limit, one thread": ([limit, file, to, "0", str(octets), "one"], PACKETS),
                "C limit, two threads": ([limit, file, to, "0", str(octets), "two"], PACKETS),
            },
            out,
        )
        # From the disk and to it: what was read is dropped from memory before, what was written is flushed.
        # Only the file of the benchmark itself: other programs keep what they have in memory.
        drop = f"dd if={file} iflag=nocache count=0 status=none"
        flush = f"sync {out}/*"
        tool = shlex.join(rawkit)
        ours = f"{tool} slice {file} --from {third} --until {half} -w {to}"
        compare(
            "slice by time, from disk to disk",
            {
                "rawkit": (["sh", "-c", f"{drop}; {ours} && {flush}"], PACKETS),
                "dd": (["sh", "-c", f"{drop}; {theirs} && {flush}"], PACKETS),
            },
            out,
        )
        compare(
            "split by count, from disk to disk",
            {
                "rawkit": (
                    ["sh", "-c", f"{drop}; {tool} split {file} -c 500000 -w {to} && {flush}"],
                    PACKETS,
                ),
                "dd": (["sh", "-c", f"{drop}; {shlex.join(pieces)} of={to} && {flush}"], PACKETS),
            },
            out,
        )
        other = str(folder / "other.pcap")
        subprocess.run(
            [*rawkit, "edit", file, "--ttl", "9", "-w", other], check=True, stderr=subprocess.DEVNULL
        )
        compare(
            "merge two",
            {
                "rawkit": ([*rawkit, "merge", file, other, "-w", to + "ng"], 2 * PACKETS),
                "mergecap": (["mergecap", "-w", to + "ng", file, other], 2 * PACKETS),
            },
            out,
        )
        compare(
            "stats",
            {
                "rawkit": ([*rawkit, "stats", "--every", "1s", file], PACKETS),
                "tshark": (
                    ["tshark", "-n", "-q", "-r", short, "-z", "io,phs", "-z", "conv,tcp", "-z", "conv,udp",
                     "-z", "io,stat,1"], tenth,
                ),
            },
            out,
        )  # fmt: skip


if __name__ == "__main__":
    main()
