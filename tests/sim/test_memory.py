"""A long run takes no more memory than a short one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rawkit.sim import App, Bernoulli, Driver, DropTail, LinkSpec, p2p
from rawkit.transport import Endpoint, Writable, Write
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat


class Source(App):
    """Always has something to send."""

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, Writable):
            driver.do(Write(bytes(notice.octets)))


class Sink(App):
    """Counts what arrives, and keeps nothing."""

    octets = 0

    def on_data(self, driver: Driver, data: bytes) -> None:
        self.octets += len(data)


def resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "options", "models"),
    [
        (GoBackN, {"window": 500}, ()),
        (SelectiveRepeat, {"control_options": {"cwnd": 500 * 1464}}, ()),
        (SelectiveRepeat, {"detect": "duplicates"}, (Bernoulli(0.01),)),
    ],
    ids=["go-back-N", "selective repeat", "selective repeat with losses"],
)
def test_memory_is_flat_over_a_million_packets(
    protocol: type[Endpoint], options: dict[str, Any], models: tuple[Bernoulli, ...]
) -> None:
    packets = 1_000_000
    network = p2p(LinkSpec("1Gbit/s", "5ms", DropTail(packets=2000), models))
    sink = Sink()
    client, server = network.connect(
        network.nodes["a"],  # type: ignore[arg-type]
        network.nodes["b"],  # type: ignore[arg-type]
        protocol(**options),
        protocol(**options),
        Source(),
        sink,
    )
    server.open("server")
    client.open("client")
    client.do(Write(bytes(100_000)))

    def until(sent: int) -> int:
        network.clock.run(stop=lambda: client.sent >= sent)
        return resident_kb()

    early = until(packets // 10)
    late = until(packets)
    assert sink.octets > packets * 1300
    print(f"{client.sent} data packets, {late - early} kB more than after a tenth of them")
    assert late - early < 1500
