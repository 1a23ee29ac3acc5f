"""How much memory does a packet take that is kept, its own octets aside?

A list of parsed Ethernet/IPv4/TCP segments, each of which was asked for its ports, beside dpkt and scapy;
"kept" are packets nobody has asked anything yet. Octets a packet, as Python's allocators count them;
fewer are better.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable

from rawkit.wire import MSS, TCP, Ether, IPv4, Packet

PACKETS_N = 5_000
ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")


def frames() -> list[bytes]:
    """Segments that differ in sequence number and ports, so that no value is one object for all."""
    made = []
    for i in range(PACKETS_N):
        tcp = TCP(sport=40_000 + i, dport=10_000 + i, seq=1_000_000 + i, flags="S", options=[MSS(1460)])
        made.append(bytes(ETHER / IPv4(src="10.77.0.1", dst="10.77.0.2", id=1000 + i) / tcp / bytes(100)))
    return made


def octets_each(keep: Callable[[bytes], object], octets: list[bytes]) -> float:
    """What keeping one packet allocates, octets that were there before not counted."""
    kept = [keep(frame) for frame in octets[:100]]  # imports, caches
    kept = [None] * len(octets)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for i, frame in enumerate(octets):
        kept[i] = keep(frame)
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / len(octets)


def rawkit_kept(octets: bytes) -> object:
    return Packet.parse(octets)


def rawkit_read(octets: bytes) -> object:
    packet = Packet.parse(octets)
    assert packet[TCP].sport > packet[TCP].dport
    return packet


def dpkt_read(octets: bytes) -> object:
    import dpkt

    packet = dpkt.ethernet.Ethernet(octets)
    assert packet.data.data.sport > packet.data.data.dport
    return packet


def scapy_read(octets: bytes) -> object:
    from scapy.layers import inet, l2

    packet = l2.Ether(octets)
    assert packet[inet.TCP].sport > packet[inet.TCP].dport
    return packet


def main() -> None:
    octets = frames()
    mine = {"kept": octets_each(rawkit_kept, octets), "ports read": octets_each(rawkit_read, octets)}
    peers = {"dpkt": octets_each(dpkt_read, octets), "scapy": octets_each(scapy_read, octets[:1000])}
    for case, own in mine.items():
        for name, theirs in peers.items():
            line: dict[str, object] = {"bench": "memory", "case": case, "rawkit": round(own)}
            line |= {"peer": round(theirs), "peer_name": name, "unit": "octets/packet"}
            print(json.dumps(line | {"ratio": round(theirs / own, 2)}), flush=True)


if __name__ == "__main__":
    main()
