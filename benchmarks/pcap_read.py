"""How fast are the packets of a capture file read, without parsing them?

rawkit's Reader beside dpkt's and scapy's raw readers, on a pcap and a pcapng of 200,000 packets of 60 to 1514
octets made for the purpose. Medians of 5 repeats, the readers taking turns; packets per second, more is
better. Prints one JSON object per line.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire.frame import Frame

PACKETS = 200_000
REPEATS = 5


def make(path: Path) -> None:
    """Write PACKETS frames of mixed length, in microseconds as every reader here knows them."""
    rng = random.Random(1)
    octets = rng.randbytes(1514)
    with create_pcap(path) as writer:
        for n in range(PACKETS):
            writer.write(
                Frame(octets[: rng.choice((60, 66, 90, 590, 1514))], 1_700_000_000 * 10**9 + n * 1000)
            )


def read_rawkit(path: Path) -> int:
    with open_pcap(path) as reader:
        return count(reader)


def read_dpkt(path: Path) -> int:
    import dpkt

    reader = dpkt.pcapng.Reader if path.suffix == ".pcapng" else dpkt.pcap.Reader
    with path.open("rb") as file:
        return count(reader(file))


def read_scapy(path: Path) -> int:
    from scapy.utils import RawPcapReader

    with RawPcapReader(str(path)) as reader:
        return count(reader)


def count(packets: Iterable[Any]) -> int:
    """Go through the packets one by one, as a user's loop does."""
    n = 0
    for _ in packets:
        n += 1
    return n


def main() -> None:
    readers: dict[str, Callable[[Path], int]] = {
        "rawkit": read_rawkit,
        "dpkt": read_dpkt,
        "scapy": read_scapy,
    }
    with tempfile.TemporaryDirectory() as folder:
        for case in ("pcap", "pcapng"):
            path = Path(folder) / f"packets.{case}"
            make(path)
            rates: dict[str, list[float]] = {name: [] for name in readers}
            for repeat in range(REPEATS + 1):
                for name, read in readers.items():
                    start = time.perf_counter()
                    packets = read(path)
                    took = time.perf_counter() - start
                    if packets != PACKETS:
                        raise SystemExit(f"{name} read {packets} of {PACKETS} packets")
                    if repeat:  # the first round imports modules and warms the page cache
                        rates[name].append(packets / took)
            mine = statistics.median(rates["rawkit"])
            for name in ("dpkt", "scapy"):
                theirs = statistics.median(rates[name])
                line: dict[str, object] = {
                    "bench": "pcap_read",
                    "case": case,
                    "rawkit": round(mine),
                    "peer": round(theirs),
                }
                line |= {"peer_name": name, "unit": "packets/s", "ratio": round(mine / theirs, 2)}
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
