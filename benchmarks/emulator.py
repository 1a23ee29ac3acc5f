"""How many frames a second does an emulated link carry, and how late do they come?

A host of a private lab floods the other, frames of 1514 and of 60 octets, over a link without a rate that
draws losses, copies and reordering for each, or only delays; what leaves the relay counts, medians of 5 runs
of a second. Then 2000 echo requests of 1500 octets, 2 ms apart, over 10 Mbit/s and 20 ms: by how much their
median is above the 42.4 ms that this takes, less what a ping takes without a link, for one of the two ways.
`peer` is what is asked of it. Prints one JSON object per line.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import threading
import time

from rawkit.engine import FrameBatch, open_transmitter
from rawkit.engine.namespace import become_namespace_root
from rawkit.engine.pace import percentile
from rawkit.lab import Host, Lab
from rawkit.sim import Bernoulli, Duplicate, LinkSpec, Reorder

EXPERIMENTAL = b"\x88\xb5"
REPEATS = 5
SECONDS = 1.0
ASKED_RATE = 100_000
ASKED_US = 150


def carried(models: bool, length: int) -> float:
    """Frames a second that leave the relay, the median of some runs."""
    some = (Bernoulli(0.001), Duplicate(0.001), Reorder(0.001, by_packets=3)) if models else ()
    rates = []
    with Lab(link=LinkSpec(None, "1ms", models=some)) as lab:
        assert lab.relay is not None
        header = bytes(lab.b.mac) + bytes(lab.a.mac) + EXPERIMENTAL  # which no host has to think about
        batch = FrameBatch(512, 512 * length)
        batch.extend([header.ljust(length, b"x")] * 512)
        over = threading.Event()
        with open_transmitter(lab.a.interface, "packet", namespace=lab.a.namespace) as transmitter:

            def flood() -> None:
                while not over.is_set():
                    transmitter.send_batch(batch, timeout=1)

            thread = threading.Thread(target=flood)
            thread.start()
            try:
                for repeat in range(REPEATS + 1):
                    start, before = time.perf_counter(), lab.relay.counters()[0].sent
                    time.sleep(SECONDS)
                    sent = lab.relay.counters()[0].sent - before
                    if repeat:  # the first second warms up
                        rates.append(sent / (time.perf_counter() - start))
            finally:
                over.set()
                thread.join()
    return statistics.median(rates)


def ping(host: Host, address: str) -> float:
    """Median round trip in milliseconds."""
    command = ["ping", "-c", "2000", "-i", "0.002", "-s", "1472", address]
    text = host.run(command, stdout=subprocess.PIPE, text=True).stdout
    times = [line.partition("time=")[2].split()[0] for line in text.splitlines() if "time=" in line]
    return statistics.median(map(float, times))


def main() -> None:
    become_namespace_root()
    for models in (False, True):
        for length in (1514, 60):
            rate = carried(models, length)
            what = "losses, copies, reordering" if models else "delay"
            row: dict[str, object] = {"bench": "emulator", "case": f"{what}, {length} octets"}
            row |= {"rawkit": round(rate), "peer": ASKED_RATE, "unit": "frames/s", "peer_name": "asked for"}
            print(json.dumps(row | {"ratio": round(rate / ASKED_RATE, 2)}), flush=True)
    with Lab() as lab:
        direct = ping(lab.a, str(lab.b.ipv4))
    for spin in ("0", "150us"):
        with Lab(link=LinkSpec("10Mbit/s", "20ms"), spin=spin) as lab:
            added_us = (ping(lab.a, str(lab.b.ipv4)) - 42.4 - direct) * 1000 / 2
            assert lab.relay is not None
            late_us = percentile(lab.relay.lateness()[0], 50) / 1000
        asleep = "sleeping" if spin == "0" else "awake for the last 150 us"
        for what, value in (("delay added", added_us), ("lateness of the relay", late_us)):
            row = {"bench": "emulator", "case": f"{what}, {asleep}", "rawkit": round(value, 1)}
            row |= {"peer": ASKED_US, "unit": "us", "peer_name": "asked for"}
            print(json.dumps(row | {"ratio": round(ASKED_US / max(value, 0.1), 2)}), flush=True)


if __name__ == "__main__":
    main()
