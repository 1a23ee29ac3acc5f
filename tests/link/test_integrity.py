"""Over real carriers and links with faults, what arrives is what was written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from rawkit.lab import Lab
from rawkit.sim import Bernoulli, Corrupt, Duplicate, GilbertElliott, LinkSpec, Reorder
from rawkit.tools.labrun import run_in_lab
from rawkit.transport import Endpoint
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait

pytestmark = pytest.mark.net

MS = 10**6
FAULTS: dict[str, tuple[Any, ...]] = {
    "none": (),
    "loss 1 %": (Bernoulli(0.01),),
    "loss 5 %": (Bernoulli(0.05),),
    "loss 20 %": (Bernoulli(0.2),),
    "bursts": (GilbertElliott(0.01, 0.25),),
    "reorder 5 % by 3": (Reorder(0.05, by_packets=3),),
    "duplicate 5 %": (Duplicate(0.05),),
    "corrupt 1 %": (Corrupt(0.01),),
}
# Small time-outs: the link has hardly any delay, and a stop-and-wait sender waits for each loss.
PROTOCOLS: dict[str, tuple[type[Endpoint], dict[str, Any], int]] = {
    "stop-and-wait": (StopAndWait, {"numbers": 256, "timeout_ns": 8 * MS}, 400_000),
    "go-back-n": (GoBackN, {"timeout_ns": 8 * MS}, 2_000_000),
    "selective repeat": (SelectiveRepeat, {"min_rto_ns": 10 * MS}, 10_000_000),
}


# Time-outs in a row double, and the bad state of a link lasts for a number of packets, not for a time: a
# sender that is down to one packet waits long.
HARD = ("loss 20 %", "bursts")


@pytest.fixture(scope="module", params=FAULTS)
def faulty(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, str]]:
    with Lab(link=LinkSpec(delay="200us", models=FAULTS[request.param]), seed=5) as lab:
        yield lab, request.param


def check(lab: Lab, over: str, version: int, name: str, octets: int) -> None:
    protocol, options, _ = PROTOCOLS[name]
    outcome = run_in_lab(
        lambda: protocol(**options), lab, over, version=version, octets=octets, timeout=300, seed=octets
    )
    assert outcome.server_app.wrong == ""
    assert outcome.complete, outcome.metrics()
    assert outcome.closed
    assert not sum(outcome.lost.values()), outcome.lost


@pytest.mark.parametrize("over", ["raw", "udp"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_little_arrives_as_it_was(faulty: tuple[Lab, str], name: str, over: str) -> None:
    check(faulty[0], over, 4, name, 40_000)


@pytest.mark.slow
@pytest.mark.parametrize(("over", "version"), [("raw", 4), ("raw", 6), ("udp", 4), ("udp", 6), ("tun", 4)])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_much_arrives_as_it_was(faulty: tuple[Lab, str], name: str, over: str, version: int) -> None:
    if over == "tun" and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not for this user")
    lab, fault = faulty
    check(lab, over, version, name, PROTOCOLS[name][2] // (10 if fault in HARD else 1))
