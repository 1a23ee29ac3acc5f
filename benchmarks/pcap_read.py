"""How fast is a capture file of a million packets read, and how much memory does that take?

rawkit's batches beside tcpdump (`-r FILE -w /dev/null`, its start included) and the bindings of libpcap; its
loop over frames beside these, dpkt and scapy, which a user's loop would use; five columns beside `tshark -T
fields`; and the memory of a list of all packets beside scapy's. The file is in the page cache. Medians of 5
repeats, all taking turns; slow ones get fewer packets. Packets per second, more is better; MiB, less is
better. Prints one JSON object per line.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from _captures import make

from rawkit.bulk import columns
from rawkit.pcap import open_pcap

PACKETS = 1_000_000
LOOP_PACKETS = 100_000
LIST_PACKETS = 50_000
REPEATS = 5
NAMES = ["ip.src", "ip.dst", "tcp.sport", "tcp.dport", "tcp.flags"]
TSHARK_NAMES = ["ip.src", "ip.dst", "tcp.srcport", "tcp.dstport", "tcp.flags"]

Side = Callable[[Path], object]

# What a process's memory is: run with a name and a path, prints the most it ever had, in MiB.
MEMORY = """
import sys
name, path = sys.argv[1:]
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
start = peak()
if name == "nothing":
    import rawkit.pcap
elif name == "batches":
    from rawkit.pcap import open_pcap
    with open_pcap(path) as reader:
        for batch in reader.batches():
            pass
elif name == "columns":
    from rawkit.bulk import columns
    columns(path, sys.stdin.read().split())
elif name == "list":  # libraries are loaded before, on either side
    import rawkit.wire.frame
    from rawkit.pcap import open_pcap
    with open_pcap(path) as reader:
        start = peak()
        kept = list(reader)
elif name == "scapy rdpcap":
    from scapy.all import rdpcap
    start = peak()
    kept = rdpcap(path)
print(peak(), peak() - start)
"""


def batches(path: Path) -> int:
    with open_pcap(path) as reader:
        return sum(map(len, reader.batches()))


def frames(path: Path) -> int:
    with open_pcap(path) as reader:
        return count(reader)


def pypcap(path: Path) -> int:
    return count(importlib.import_module("pcap").pcap(str(path)))


def pcapy(path: Path) -> int:
    reader = importlib.import_module("pcapy").open_offline(str(path))
    n = 0

    def callback(header: object, octets: bytes) -> None:
        nonlocal n
        n += 1

    reader.loop(-1, callback)
    return n


def dpkt(path: Path) -> int:
    library = importlib.import_module("dpkt")
    reader = library.pcapng.Reader if path.suffix == ".pcapng" else library.pcap.Reader
    with path.open("rb") as file:
        return count(reader(file))


def scapy(path: Path) -> int:
    with importlib.import_module("scapy.utils").RawPcapReader(str(path)) as reader:
        return count(reader)


def tcpdump(path: Path) -> None:
    # Without -Z it gives what it writes, the device, to the user that it becomes.
    subprocess.run(
        ["tcpdump", "-Z", "root", "-r", path, "-w", "/dev/null"], check=True, stderr=subprocess.DEVNULL
    )


def five_columns(path: Path) -> int:
    return len(columns(path, NAMES))


def tshark(path: Path) -> int:
    command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    command += [word for name in TSHARK_NAMES for word in ("-e", name)]
    return subprocess.run(command, check=True, capture_output=True).stdout.count(b"\n")


def count(packets: Iterable[Any]) -> int:
    """Go through the packets one by one, as a user's loop does."""
    n = 0
    for _ in packets:
        n += 1
    return n


def present(sides: dict[str, Side]) -> dict[str, Side]:
    """The sides that are installed; the others are named."""
    modules = {"pypcap": "pcap", "pcapy": "pcapy", "dpkt": "dpkt", "scapy": "scapy"}
    found = {}
    for name, side in sides.items():
        missing = name in ("tcpdump", "tshark") and not shutil.which(name)
        if name in modules:
            missing = importlib.util.find_spec(modules[name]) is None
        if missing:
            print(
                json.dumps({"bench": "pcap_read", "peer_name": name, "missing": "not installed"}), flush=True
            )
        else:
            found[name] = side
    return found


def compare(case: str, sides: dict[str, tuple[Side, Path, int]]) -> None:
    """One line for each peer of the first side; a side has its file and how many packets that holds."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(REPEATS + 1):
        for name, (read, path, packets) in sides.items():
            start = time.perf_counter()
            seen = read(path)
            took = time.perf_counter() - start
            if seen not in (None, packets):
                raise SystemExit(f"{name} read {seen} of {packets} packets")
            if repeat:  # the first round imports modules and warms the page cache
                rates[name].append(packets / took)
    first = next(iter(sides))
    mine = statistics.median(rates[first])
    for name in sides:
        if name != first:
            theirs = statistics.median(rates[name])
            report(case, mine, theirs, name, "packets/s", mine / theirs)


def report(case: str, mine: float, theirs: float, name: str, unit: str, ratio: float) -> None:
    line = {"bench": "pcap_read", "case": case, "rawkit": round(mine, 1), "peer": round(theirs, 1)}
    line |= {"peer_name": name, "unit": unit, "ratio": round(ratio, 2)}
    print(json.dumps(line), flush=True)


def memory(name: str, path: Path) -> tuple[float, float]:
    """The most memory of a process that reads the file so, and what of it the reading took, in MiB."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", MEMORY, name, str(path)]
    runs = [
        tuple(
            map(
                float,
                subprocess.run(
                    command, check=True, capture_output=True, text=True, input=" ".join(NAMES)
                ).stdout.split(),
            )
        )
        for _ in range(REPEATS)
    ]
    peak, growth = (statistics.median(column) for column in zip(*runs))
    return peak, growth


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".pcap", ".pcapng"):
            large, small = (Path(folder) / f"{name}{suffix}" for name in ("large", "small"))
            make(large, PACKETS)
            make(small, LOOP_PACKETS)
            peers = present({"tcpdump": tcpdump, "pypcap": pypcap, "pcapy": pcapy})
            compare(
                f"batches, {suffix[1:]}",
                {name: (side, large, PACKETS) for name, side in ({"rawkit": batches} | peers).items()},
            )
            peers |= present({"dpkt": dpkt, "scapy": scapy})
            peers.pop("tcpdump", None)
            compare(
                f"frames, {suffix[1:]}",
                {name: (side, small, LOOP_PACKETS) for name, side in ({"rawkit": frames} | peers).items()},
            )
        large, small = Path(folder) / "large.pcap", Path(folder) / "small.pcap"
        if peers := present({"tshark": tshark}):
            compare(
                "five columns",
                {"rawkit": (five_columns, large, PACKETS), "tshark": (peers["tshark"], small, LOOP_PACKETS)},
            )
        nothing, _ = memory("nothing", large)
        for name in ("batches", "columns"):
            peak, _ = memory(name, large)
            report(f"most memory, {name}", peak, nothing, "rawkit imported", "MiB", nothing / peak)
        listed = Path(folder) / "listed.pcap"
        make(listed, LIST_PACKETS)
        if present({"scapy": scapy}):
            mine, theirs = memory("list", listed)[1], memory("scapy rdpcap", listed)[1]
            report(f"list of {LIST_PACKETS}", mine, theirs, "scapy rdpcap", "MiB", theirs / mine)


if __name__ == "__main__":
    main()
