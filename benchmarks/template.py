"""How fast are frames with two varying fields and right checksums made: a template, dpkt and scapy?

60 octets of IPv4 and TCP, the source address and the sequence number different in each, both checksums right.
Prints one JSON object per line; `rawkit` and `peer` are frames a second on one core (medians of 5 repeats,
the sides taking turns), `ratio` is how many times faster rawkit is. A peer that is not installed is named.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from rawkit.bulk.template import Counter, Template
from rawkit.engine.batch import FrameBatch
from rawkit.wire import TCP, IPv4

REPEATS = 5
BATCH = 1024
FRAMES = 2_000_000
PEER_FRAMES = {"dpkt": 2000, "scapy": 200, "rawkit objects": 2000}
PAYLOAD = bytes(20)
SOURCE = 0xC0000200


def rawkit_template() -> Callable[[int], bytes]:
    packet = IPv4(src="192.0.2.0", dst="198.51.100.1") / TCP(sport=1024, dport=80, flags="S") / PAYLOAD
    template = Template(packet, {"ip.src": Counter("192.0.2.0"), "tcp.seq": Counter(7, 3)})
    batch = FrameBatch(BATCH, BATCH * len(template))

    def make(n: int) -> bytes:
        for first in range(0, n, BATCH):
            template.fill(batch, first, min(BATCH, n - first))
        return batch[-1]

    return make


def rawkit_objects() -> Callable[[int], bytes]:
    def make(n: int) -> bytes:
        octets = b""
        for i in range(n):
            source = (SOURCE + i).to_bytes(4, "big")
            header = IPv4(src=source, dst="198.51.100.1")
            octets = bytes(header / TCP(sport=1024, dport=80, flags="S", seq=7 + 3 * i) / PAYLOAD)
        return octets

    return make


def dpkt_loop() -> Callable[[int], bytes]:
    from dpkt.ip import IP
    from dpkt.tcp import TCP as DpktTCP

    def make(n: int) -> bytes:
        octets = b""
        for i in range(n):
            segment = DpktTCP(sport=1024, dport=80, flags=2, seq=7 + 3 * i, win=TCP().window, data=PAYLOAD)
            source = (SOURCE + i).to_bytes(4, "big")
            octets = bytes(IP(src=source, dst=bytes([198, 51, 100, 1]), p=6, ttl=64, len=60, data=segment))
        return octets

    return make


def scapy_loop() -> Callable[[int], bytes]:
    from scapy.layers.inet import IP
    from scapy.layers.inet import TCP as ScapyTCP

    def make(n: int) -> bytes:
        octets = b""
        for i in range(n):
            source = ".".join(map(str, (SOURCE + i).to_bytes(4, "big")))
            header = IP(src=source, dst="198.51.100.1", id=0)
            segment = ScapyTCP(sport=1024, dport=80, flags="S", seq=7 + 3 * i, window=TCP().window)
            octets = bytes(header / segment / PAYLOAD)
        return octets

    return make


def main() -> None:
    mine = rawkit_template()
    sides = {"rawkit objects": rawkit_objects, "dpkt": dpkt_loop, "scapy": scapy_loop}
    for name, prepare in sides.items():
        try:
            theirs = prepare()
        except ImportError as missing:
            print(json.dumps({"bench": "template", "peer_name": name, "missing": str(missing)}))
            continue
        n = PEER_FRAMES[name]
        if mine(n) != theirs(n):
            raise SystemExit(f"{name} builds {theirs(n).hex()}, the template {mine(n).hex()}")
        ours: list[float] = []
        others: list[float] = []
        for _ in range(REPEATS):
            for make, count, rates in ((mine, FRAMES, ours), (theirs, n, others)):
                start = time.perf_counter()
                make(count)
                rates.append(count / (time.perf_counter() - start))
        rate, peer = statistics.median(ours), statistics.median(others)
        row = {"bench": "template", "case": "60 octets, 2 fields", "rawkit": round(rate), "peer": round(peer)}
        row |= {"peer_name": name, "unit": "frames/s", "ratio": round(rate / peer)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
