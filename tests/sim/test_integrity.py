"""The integrity matrix: what arrives has the digest of what was sent, whatever the link does to packets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from rawkit.sim import (
    STANDARD,
    App,
    Bernoulli,
    Corrupt,
    Driver,
    Duplicate,
    GilbertElliott,
    Reorder,
    p2p,
)
from rawkit.sim.models import Model
from rawkit.transport import Close, Closed, Endpoint, PeerClosed, Substream, Writable, Write
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait

PROTOCOLS: list[tuple[type[Endpoint], Mapping[str, Any]]] = [
    (StopAndWait, {"numbers": 256}),  # two are not enough where packets overtake each other
    (GoBackN, {"window": 64}),
    (SelectiveRepeat, {}),
    (SelectiveRepeat, {"mode": "messages", "window": 512, "detect": "duplicates", "control": "cubic"}),
]
FAULTS: dict[str, tuple[Model, ...]] = {
    "none": (),
    "1 %": (Bernoulli(0.01),),
    "5 %": (Bernoulli(0.05),),
    "20 %": (Bernoulli(0.2),),
    "bursts": (GilbertElliott(0.01, 0.25),),
    "reorder": (Reorder(0.05, by_packets=3),),
    "duplicate": (Duplicate(0.05),),
    "corrupt": (Corrupt(0.01),),
}


class Hasher(App):
    """Digests what arrives and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = sha256()
        self.octets = 0

    def on_data(self, driver: Driver, data: bytes) -> None:
        self.digest.update(data)
        self.octets += len(data)

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, Writable):
            return
        self.notices.append(notice)
        if isinstance(notice, PeerClosed):
            driver.do(Close())


def check_integrity(
    protocol: type[Endpoint], options: Mapping[str, Any], models: tuple[Model, ...], octets: int
) -> None:
    network = p2p(replace(STANDARD, models=models), seed=11)
    sink = Hasher()
    client, server = network.connect(
        network.nodes["a"],  # type: ignore[arg-type]
        network.nodes["b"],  # type: ignore[arg-type]
        protocol(**options),
        protocol(**options),
        None,
        sink,
    )
    block = Substream(5, "block").octets(10_000)
    sent = sha256()
    server.open("server")
    client.open("client")
    for i in range(octets // 1000):
        data = i.to_bytes(4, "big") + block[i % 9000 :][:996]
        sent.update(data)
        client.do(Write(data))
    client.do(Close())
    network.run()
    assert sink.octets == octets
    assert sink.digest.hexdigest() == sent.hexdigest()
    assert Closed() in sink.notices
    assert client.done
    assert server.done


@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize(("protocol", "options"), PROTOCOLS, ids=["sw", "gbn", "sr", "sr-messages"])
def test_the_digest_is_the_same_at_both_ends(
    protocol: type[Endpoint], options: Mapping[str, Any], faults: str
) -> None:
    check_integrity(protocol, options, FAULTS[faults], 200_000)


@pytest.mark.slow
@pytest.mark.parametrize("faults", FAULTS)
@pytest.mark.parametrize(("protocol", "options"), PROTOCOLS, ids=["sw", "gbn", "sr", "sr-messages"])
def test_the_digest_of_ten_megabytes_is_the_same_at_both_ends(
    protocol: type[Endpoint], options: Mapping[str, Any], faults: str
) -> None:
    check_integrity(protocol, options, FAULTS[faults], 10_000_000)
