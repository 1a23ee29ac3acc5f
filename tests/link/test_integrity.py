"""Over real carriers and links with faults, what arrives is what was written.

The faults are those of the simulator's matrix (`tests/sim/test_integrity.py`), as schedules: which packets of
each host they meet is drawn beforehand, so that what the link did can be held against it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from link.wired import OVER

from rawkit.lab import Lab
from rawkit.link import Outcome
from rawkit.sim import (
    Bernoulli,
    Corrupt,
    Duplicate,
    Fault,
    GilbertElliott,
    LinkSpec,
    Reorder,
    Schedule,
)
from rawkit.sim.link import Datagram, keyed
from rawkit.sim.models import Verdict
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
# Small time-outs: the link has hardly any delay, and a stop-and-wait sender waits for each loss; and they do
# not double for long, because the bad state of a link lasts for a number of packets, of which a sender that
# times out sends one each time. A small window for go-back-N, which sends all of it again.
PROTOCOLS: dict[str, Callable[[], Endpoint]] = {
    "stop-and-wait": lambda: StopAndWait(numbers=256, timeout_ns=3 * MS, tries=1000),
    "go-back-n": lambda: GoBackN(window=16, timeout_ns=4 * MS, tries=1000),
    "selective repeat": lambda: SelectiveRepeat(min_rto_ns=4 * MS, max_rto_ns=32 * MS, tries=100),
}
LINK = LinkSpec(delay="50us")
PACKETS = 100_000  # of either host, at most: go-back-N sends 40,000 where a fifth is lost


@cache
def schedule_of(fault: str, packets: int) -> Schedule:
    """What a fault's models deal to the first `packets` packets of either host."""
    faults = []
    datagram = Datagram(b"", 1500, None, None, 0, 0, 0)  # type: ignore[arg-type]
    for sender, receiver in ("ab", "ba"):
        judges = [model.bind(key) for model, key in keyed(FAULTS[fault], 5, f"{sender}>{receiver}")]
        for n in range(packets if judges else 0):
            verdict = Verdict()
            for judge in judges:
                judge.judge(n, 0, datagram, verdict)
            if verdict.drop:
                faults.append(Fault("drop", n, sender))
            if verdict.behind:
                faults.append(Fault("swap", n, sender, amount=verdict.behind))
            faults += [Fault("duplicate", n, sender) for _ in verdict.copies_ns]
            faults += [Fault("corrupt", n, sender, amount=bit) for bit in verdict.flips]
    return Schedule(faults)


def check(lab: Lab, over: str, version: int, name: str, octets: int, *, bulk: bool = False) -> Outcome:
    outcome = run_in_lab(
        PROTOCOLS[name], lab, over, version=version, octets=octets, timeout=300, seed=octets, bulk=bulk
    )
    assert outcome.server_app.wrong == ""
    assert outcome.complete, outcome.metrics()
    assert outcome.closed
    assert not sum(outcome.lost.values()), outcome.lost
    return outcome


@pytest.fixture(scope="module", params=FAULTS)
def faulty(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(link=LINK, schedule=schedule_of(request.param, 3000), seed=5) as lab:
        yield lab


@pytest.mark.parametrize("over", ["raw", "udp"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_little_arrives_as_it_was(faulty: Lab, name: str, over: str) -> None:
    check(faulty, over, 4, name, 40_000)


def as_scheduled(lab: Lab, schedule: Schedule, host: str, sent: int) -> bool:
    """Whether the link has dealt to a host's packets what the schedule says, and to all of those it sent.

    There may be more than those: a kernel's ICMP errors about packets that came after the end.
    """
    assert lab.relay is not None
    causes = Counter(lab.relay.counters()["ab".index(host)].causes)
    offered = causes["delivered"] + causes["schedule"] - causes["duplicated"]
    met = Counter(fault.action for fault in schedule if fault.sender == host and fault.n < offered)
    words = {"drop": "schedule", "duplicate": "duplicated", "corrupt": "corrupted"}
    return offered >= sent and all(met[action] == causes[word] for action, word in words.items())


@pytest.mark.slow
@pytest.mark.parametrize(("over", "version"), OVER)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", [*PROTOCOLS, "selective repeat in bulk"])
def test_ten_megabytes_arrive_as_they_were(name: str, fault: str, over: str, version: int) -> None:
    if over == "tun" and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not for this user")
    name, bulk = name.removesuffix(" in bulk"), name.endswith(" in bulk")
    schedule = schedule_of(fault, PACKETS)
    with Lab(link=LINK, schedule=schedule, seed=5) as lab:
        outcome = check(lab, over, version, name, 10_000_000, bulk=bulk)
        assert outcome.server is not None
        sent = {"a": outcome.client.sent, "b": outcome.server.sent}
        assert max(sent.values()) <= PACKETS, "more packets than there are faults for"
        end = time.monotonic() + 10
        while any(not as_scheduled(lab, schedule, host, n) for host, n in sent.items()):
            assert time.monotonic() < end, (sent, lab.relay and lab.relay.counters())
            time.sleep(0.005)  # the last are still under way
