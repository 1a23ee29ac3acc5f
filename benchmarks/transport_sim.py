"""How many data packets a second does the simulator carry, acknowledgements included?

Go-back-N and selective repeat (SACK, RACK, NewReno) over a link of 1 Gbit/s and 5 ms without losses, packets
of 1500 octets, headers built, parsed and summed for each. CPU time of this process alone, medians of
REPEATS; the engine's checksum is used, as in any program that imports the engine. "memory" is how much more
a run of ten times as many packets needs at its peak, in kB of Python objects.
"""

from __future__ import annotations

import json
import statistics
import time
import tracemalloc
from typing import Any

import rawkit.engine.checksum  # noqa: F401 - registers the C checksum with rawkit.wire
from rawkit.sim import App, Driver, DropTail, LinkSpec, p2p
from rawkit.transport import Close, Endpoint, PeerClosed, Writable, Write
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat

REPEATS = 5
PACKETS = 30_000
LINK = LinkSpec("1Gbit/s", "5ms", DropTail(packets=2000))


class Source(App):
    """Writes so many octets, as fast as it may."""

    def __init__(self, octets: int) -> None:
        super().__init__()
        self.left = octets

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, Writable) and self.left:
            piece = min(self.left, notice.octets)
            self.left -= piece
            driver.do(Write(bytes(piece)))
            if not self.left:
                driver.do(Close())


class Sink(App):
    """Counts what arrives."""

    octets = 0

    def on_data(self, driver: Driver, data: bytes) -> None:
        self.octets += len(data)

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, PeerClosed):
            driver.do(Close())


def run(protocol: type[Endpoint], options: dict[str, Any], packets: int) -> float:
    """Seconds of CPU time for a transfer."""
    octets = packets * (1480 - protocol.header.min_len)
    network = p2p(LINK)
    source, sink = Source(octets), Sink()
    client, server = network.connect(
        network.nodes["a"],  # type: ignore[arg-type]
        network.nodes["b"],  # type: ignore[arg-type]
        protocol(**options),
        protocol(**options),
        source,
        sink,
    )
    server.open("server")
    client.open("client")
    if protocol is SelectiveRepeat:
        client.do(Write(b""))
    start = time.process_time()
    network.run()
    took = time.process_time() - start
    assert sink.octets == octets, (sink.octets, octets)
    assert client.done
    assert server.done
    return took


def main() -> None:
    cases: list[tuple[str, type[Endpoint], dict[str, Any]]] = [
        ("go-back-N", GoBackN, {"window": 500}),
        ("selective repeat", SelectiveRepeat, {"control_options": {"cwnd": 500 * 1464}}),
    ]
    for name, protocol, options in cases:
        rate = PACKETS / statistics.median(run(protocol, options, PACKETS) for _ in range(REPEATS))
        line = {"bench": "transport_sim", "case": name, "rawkit": round(rate), "unit": "data packets/s"}
        print(json.dumps(line), flush=True)
    for name, protocol, options in cases:
        peaks = []
        for packets in (5000, 50_000):
            tracemalloc.start()
            run(protocol, options, packets)
            peaks.append(tracemalloc.get_traced_memory()[1] / 1000)
            tracemalloc.stop()
        line = {
            "bench": "transport_sim",
            "case": f"{name}, memory",
            "rawkit": round(peaks[1] - peaks[0]),
            "unit": "kB more for ten times the packets",
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
