"""The kernel's TCP as an oracle: selective repeat with the same congestion control, on the same link.

What is the same: the link, the numbers of the packets that are lost, an initial window of ten segments, how
slow start ends, a least time-out of 200 ms, acknowledgements that name ranges, losses found by time
(RACK-TLP), and buffers, far larger than what is ever under way. What is not: the kernel lets the window fall
gradually in a recovery (PRR), counts it in whole segments, acknowledges every second segment only, its CUBIC
is nowhere as fast as Reno (section 4.3 of RFC 9438 says where it may be), and its header has 32 octets where
ours has 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from report.tshark import columns

from rawkit.lab import Lab
from rawkit.lab.setup import set_sysctls
from rawkit.pcap import create_pcap
from rawkit.report.dissector import dissector
from rawkit.sim import Bernoulli, DropTail, LinkSpec, Transfer
from rawkit.tools.kerneltcp import kernel_transfer
from rawkit.tools.labrun import Watch, run_in_lab
from rawkit.transport.endpoint import Context
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.scoreboard import Segment

pytestmark = pytest.mark.net


LINK = LinkSpec("20Mbit/s", "20ms", DropTail(packets=100))  # room for 1.5 bandwidth-delay products
WINDOW = 1 << 20
HYBRID = {"control": "cubic", "control_options": {"slow_start": "hybrid"}}  # as the kernel's
# Both buffers, least, default and most; of what it receives, the kernel keeps as much for itself.
BUFFERS = dict.fromkeys(("net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"), f"4096 {2 * WINDOW} {2 * WINDOW}")


@contextmanager
def lossy_lab(loss: float, seed: int = 0) -> Iterator[Lab]:
    """LINK, with losses of data only."""
    link = replace(LINK, models=(Bernoulli(loss),) if loss else ())
    with Lab(link=link, link_back=LINK, seed=seed) as lab:
        for host in (lab.a, lab.b):
            with host:
                set_sysctls(BUFFERS)
        yield lab


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs"), [({"control": "newreno"}, "reno"), (HYBRID, "cubic")], ids=["reno", "cubic"]
)
@pytest.mark.parametrize(("loss", "octets", "tolerance"), [(0.001, 2_000_000, 0.15), (0.01, 1_200_000, 0.25)])
def test_goodput_is_the_kernels(
    ours: dict[str, Any], theirs: str, loss: float, octets: int, tolerance: float
) -> None:
    """The mean of 20 seeds, which are the fates of 20 links."""
    made_bps, kernel_bps = [], []
    for seed in range(20):
        with lossy_lab(loss, seed) as lab:
            made = run_in_lab(lambda: SelectiveRepeat(window=WINDOW, **ours), lab, octets=octets, seed=seed)
            assert made.complete
            made_bps.append(made.goodput_bps)
        with lossy_lab(loss, seed) as lab:
            kernel = kernel_transfer(lab, octets, control=theirs, interval_ns=20_000_000)
            assert kernel.received == octets
            kernel_bps.append(kernel.goodput_bps)
    print(f"{theirs} at {loss:.1%}: {mean(made_bps) / 1e6:.2f} beside {mean(kernel_bps) / 1e6:.2f} Mbit/s")
    assert mean(made_bps) == pytest.approx(mean(kernel_bps), rel=tolerance)


@pytest.mark.slow
def test_slow_start_ends_where_the_kernels_does() -> None:
    """Cubic's, without losses, on a link that holds 67 packets; ours in virtual time, which is never late."""
    made = Transfer(SelectiveRepeat, HYBRID, octets=400_000, link=LINK).run()
    endpoint = made.client.endpoint
    assert isinstance(endpoint, SelectiveRepeat)
    assert endpoint.control.ssthresh is not None
    ours, theirs = endpoint.control.ssthresh / endpoint.mss, []
    for _ in range(10):  # where the machine keeps the link waiting, the kernel misses the moment
        with lossy_lab(0) as lab:
            kernel = kernel_transfer(lab, 400_000, control="cubic", interval_ns=20_000_000)
        assert kernel.last is not None
        theirs.append(kernel.last.ssthresh / kernel.last.mss)
        if theirs[-1] == pytest.approx(ours, rel=0.15):
            return
    pytest.fail(f"slow start ends at {ours:.0f} segments, the kernel's at {theirs}")


class Counting(SelectiveRepeat):
    """Keeps a book of what it sends again."""

    again = 0

    def output(self, cx: Context, segment: Segment) -> None:
        self.again += segment.transmissions > 0
        super().output(cx, segment)


def test_tshark_counts_what_was_sent_again(tmp_path: Path) -> None:
    """Of ours by the generated dissector, of the kernel's by its own."""
    script, ours, theirs = tmp_path / "x.lua", tmp_path / "ours.pcapng", tmp_path / "theirs.pcapng"
    script.write_text(dissector(Counting.header, name="sr"))
    with lossy_lab(0.06, 4) as lab:
        made = run_in_lab(Counting, lab, octets=150_000, capture=str(ours))
    rows = columns(ours, [script], ["ip.src", "sr.analysis.retransmission"])
    sender = str(lab.a.ipv4)
    again = [row for row in rows if row["ip.src"] == [sender] and row["sr.analysis.retransmission"]]
    assert isinstance(made.client.endpoint, Counting)
    assert len(again) == made.client.endpoint.again > 0
    with lossy_lab(0.06, 4) as lab, create_pcap(theirs) as file, lab.a:
        watch = Watch(lab.a.interface, file.write, "tcp")
        kernel = kernel_transfer(lab, 150_000, control="reno", interval_ns=20_000_000)
        watch.stop()
    # At the sender nothing is out of order: what tshark calls so (sent again soon) was sent again.
    verdicts = ["tcp.analysis.retransmission", "tcp.analysis.out_of_order"]
    rows = columns(theirs, [], ["ip.src", "tcp.len", *verdicts])
    again = [row for row in rows if row["ip.src"] == [sender] and any(row[name] for name in verdicts)]
    assert kernel.last is not None
    assert len(again) == kernel.last.retransmissions > 0
