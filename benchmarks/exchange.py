"""How long does it take to send a thousand requests and pair every answer: rawkit's exchange and scapy's sr?

Echo requests from one host of a private lab to the other, whose kernel answers at once. Both build their
packets before the clock starts; opening and closing sockets counts. `rawkit` and `peer` are packets a
second (medians of 5 repeats, taking turns). The second case pairs alone: answers that are in memory, in
random order, thousands outstanding, beside asking `answers` about each request. Prints one JSON object per
line.
"""

from __future__ import annotations

import importlib.util
import json
import random
import statistics
import time
from collections.abc import Callable, Mapping

from rawkit.bulk.match import Matcher
from rawkit.engine.namespace import become_namespace_root
from rawkit.lab import Lab
from rawkit.tools.exchange import exchange
from rawkit.wire import ICMPEcho, IPv4, Packet

REPEATS = 5
SENT = 1000
OUTSTANDING = 5000


def main() -> None:
    become_namespace_root()
    with Lab() as lab, lab.a:
        requests = [IPv4(dst=lab.b.ipv4) / ICMPEcho(id=7, seq=seq) / bytes(18) for seq in range(SENT)]

        def ours() -> int:
            return sum(outcome.answer is not None for outcome in exchange(requests, timeout=5))

        sides: dict[str, Callable[[], int]] = {"rawkit": ours}
        if importlib.util.find_spec("scapy") is None:
            print(json.dumps({"bench": "exchange", "peer_name": "scapy sr", "missing": "not installed"}))
        else:
            from scapy.all import ICMP, IP, Raw, conf, sr  # reads the interfaces: here, on host a

            conf.verb = 0
            theirs = [IP(dst=str(lab.b.ipv4)) / ICMP(id=7, seq=seq) / Raw(bytes(18)) for seq in range(SENT)]
            sides["scapy sr"] = lambda: len(sr(theirs, timeout=5)[0])
        compare(f"{SENT} echo requests", SENT, sides)
    pair()


def pair() -> None:
    """Answers to many outstanding requests, by the index and one by one."""
    requests = [
        IPv4(src="192.0.2.1", dst="192.0.2.2") / ICMPEcho(id=i >> 10, seq=i & 1023)
        for i in range(OUTSTANDING)
    ]
    answers = [
        bytes(IPv4(src="192.0.2.2", dst="192.0.2.1") / ICMPEcho(type=0, id=i >> 10, seq=i & 1023))
        for i in range(OUTSTANDING)
    ]
    random.Random(1).shuffle(answers)
    few = answers[:50]

    def by_index() -> int:
        matcher = Matcher(requests)
        found = 0
        for octets in answers:
            number = matcher.find(Packet.parse(octets, IPv4))
            if number is not None:
                matcher.close(number)
                found += 1
        return found * SENT // OUTSTANDING

    def one_by_one() -> int:
        for octets in few:
            packet = Packet.parse(octets, IPv4)
            assert any(packet.answers(request) for request in requests)
        return SENT

    rates = {"rawkit": OUTSTANDING, "asking about each request": len(few)}
    compare(
        f"pairing, {OUTSTANDING} outstanding",
        rates,
        {"rawkit": by_index, "asking about each request": one_by_one},
    )


def compare(case: str, packets: int | Mapping[str, int], sides: Mapping[str, Callable[[], int]]) -> None:
    """Print a line for each peer; every side has to find all answers."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(REPEATS + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            found = run()
            took = time.perf_counter() - start
            if found != SENT:
                raise SystemExit(f"{case}: {name} paired {found} of {SENT}")
            if repeat:  # the first round warms up
                n = packets if isinstance(packets, int) else packets[name]
                rates[name].append(n / took)
    mine = statistics.median(rates["rawkit"])
    for name in sides:
        if name != "rawkit":
            peer = statistics.median(rates[name])
            row: dict[str, object] = {"bench": "exchange", "case": case, "rawkit": round(mine)}
            row |= {
                "peer": round(peer),
                "peer_name": name,
                "unit": "packets/s",
                "ratio": round(mine / peer, 2),
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
