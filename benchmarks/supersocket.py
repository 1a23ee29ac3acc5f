"""How fast do scapy's own functions send and sniff over rawkit's sockets, and what do they get of a burst?

Each case runs with scapy's sockets and with rawkit's in their place (rawkit.interop.scapy.use_rawkit), taking
turns, between the two hosts of a private lab; medians of 5 repeats, more is better. Most of the time is
scapy's own, for building and dissecting: the cases "octets" do neither and show the sockets alone. Prints one
JSON object per line.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from rawkit.engine import FrameBatch, PacketSocket
from rawkit.engine.namespace import become_namespace_root
from rawkit.interop.scapy import to_scapy, use_rawkit
from rawkit.lab import Lab
from rawkit.wire import UDP, Ether, IPv4

REPEATS = 5
SENT = 2000
BURST = 5000


def main() -> None:
    with suppress(PermissionError):
        # Whatever else runs here, both sides get a processor when they want one.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    become_namespace_root()
    with Lab() as lab, lab.a:
        # scapy reads the interfaces when it is imported: here, on host a.
        from scapy.all import conf, sendp, sniff

        conf.verb = 0
        packet = Ether(dst=lab.b.mac, src=lab.a.mac) / IPv4(src=lab.a.ipv4, dst=lab.b.ipv4)
        frame = bytes(packet / UDP(sport=4000, dport=4001) / bytes(18))
        theirs = [to_scapy(packet / UDP(sport=4000, dport=4001) / n.to_bytes(18, "big")) for n in range(SENT)]

        def send_packets() -> dict[str, float]:
            start = time.perf_counter()
            sendp(theirs, iface="veth0")
            return {"sendp, packets/s": SENT / (time.perf_counter() - start)}

        def send_octets() -> dict[str, float]:
            with conf.L2socket(iface="veth0") as sock:
                start = time.perf_counter()
                for _ in range(SENT):
                    sock.send(frame)
                return {"send octets, packets/s": SENT / (time.perf_counter() - start)}

        def receive_octets() -> dict[str, float]:
            """One call a frame, in bursts of no more than the smaller of the buffers holds."""
            with conf.L2listen(iface="veth0", filter="udp port 4002") as sock:
                n, seconds = 0, 0.0
                for burst in range(21):
                    send_from(lab, 50)
                    time.sleep(0.01)
                    start = time.perf_counter()
                    while sock.select([sock], 0):
                        sock.recv_raw()
                        n += burst > 0
                    seconds += (time.perf_counter() - start) * (burst > 0)  # the first warms up
                return {"receive octets, packets/s": n / seconds}

        def sniff_burst() -> dict[str, float]:
            """How many packets of a burst arrive, and how fast from the first to the last."""
            times: list[float] = []
            sender = threading.Thread(target=send_from, args=(lab, BURST))
            sniff(
                iface="veth0",
                filter="udp port 4002",
                count=BURST,
                timeout=3,
                store=False,
                started_callback=sender.start,
                prn=lambda _: times.append(time.perf_counter()),
            )
            sender.join()
            return {
                "sniff, packets/s": (len(times) - 1) / (times[-1] - times[0]),
                f"sniff a burst of {BURST}, packets": len(times),
            }

        for measure in (send_packets, send_octets, receive_octets, sniff_burst):
            compare(measure)


def send_from(lab: Lab, count: int) -> None:
    """Send frames at full speed from host b to host a's port 4002."""
    ip = Ether(dst=lab.a.mac, src=lab.b.mac) / IPv4(src=lab.b.ipv4, dst=lab.a.ipv4)
    batch = FrameBatch(count, count * 80)
    batch.extend([bytes(ip / UDP(sport=4000, dport=4002) / bytes(18))] * count)
    with PacketSocket("veth0", protocol=0, namespace=lab.b.namespace) as sock:
        sock.send_batch(batch, timeout=10)


def compare(measure: Callable[[], dict[str, float]]) -> None:
    """Print a line for each thing that `measure` finds out, by "case, unit"."""
    found: dict[str, list[dict[str, float]]] = {"rawkit": [], "scapy": []}
    for repeat in range(REPEATS + 1):
        for name, results in found.items():
            replaced: AbstractContextManager[Any] = use_rawkit() if name == "rawkit" else nullcontext()
            with replaced:
                result = measure()
            if repeat:  # the first round warms up
                results.append(result)
    for label in found["rawkit"][0]:
        mine, theirs = (statistics.median(result[label] for result in results) for results in found.values())
        case, _, unit = label.rpartition(", ")
        line: dict[str, object] = {"bench": "supersocket", "case": case}
        line |= {"rawkit": round(mine), "peer": round(theirs), "peer_name": "scapy's sockets"}
        line |= {"unit": unit, "ratio": round(mine / theirs, 2)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
