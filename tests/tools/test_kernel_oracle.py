"""The kernel's TCP as an oracle: selective repeat with the same congestion control, on the same link.

What is the same: the link, the numbers of the packets that are lost, an initial window of ten segments, a
least time-out of 200 ms, acknowledgements that name ranges, losses found by time (RACK-TLP), and buffers far
larger than what is ever under way. What is not: the kernel lets the window fall gradually in a
recovery (PRR), counts it in whole segments, acknowledges every second segment only, and its header has 32
octets where ours has 16. CUBIC at 1 % is not
compared: ours is bolder there, for reasons that are only partly known (docs/design/report.md).
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
from report.tshark import columns

from rawkit.lab import Lab
from rawkit.pcap import create_pcap
from rawkit.report.dissector import dissector
from rawkit.sim import Bernoulli, DropTail, LinkSpec
from rawkit.tools.kerneltcp import kernel_transfer
from rawkit.tools.labrun import Watch, run_in_lab
from rawkit.transport.endpoint import Context
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.scoreboard import Segment

pytestmark = pytest.mark.net


def lossy_lab(loss: float, seed: int, rate: str = "20Mbit/s") -> Lab:
    """Round trips of 40 ms, room for 100 packets (1.5 bandwidth-delay products), losses of data only."""
    back = LinkSpec(rate, "20ms", DropTail(packets=100))
    return Lab(
        link=LinkSpec(rate, "20ms", DropTail(packets=100), (Bernoulli(loss),)), link_back=back, seed=seed
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ours", "theirs", "loss", "octets", "tolerance"),
    [
        ("newreno", "reno", 0.001, 2_000_000, 0.15),
        ("cubic", "cubic", 0.001, 2_000_000, 0.15),
        ("newreno", "reno", 0.01, 1_200_000, 0.25),
    ],
)
def test_goodput_is_the_kernels(ours: str, theirs: str, loss: float, octets: int, tolerance: float) -> None:
    """The mean of 20 seeds, which are the fates of 20 links."""
    made_bps, kernel_bps = [], []
    for seed in range(20):
        with lossy_lab(loss, seed) as lab:
            made = run_in_lab(lambda: SelectiveRepeat(control=ours), lab, octets=octets, seed=seed)
            assert made.complete
            made_bps.append(made.goodput_bps)
        with lossy_lab(loss, seed) as lab:
            kernel = kernel_transfer(lab, octets, control=theirs, interval_ns=20_000_000)
            assert kernel.received == octets
            kernel_bps.append(kernel.goodput_bps)
    print(f"{theirs} at {loss:.1%}: {mean(made_bps) / 1e6:.2f} beside {mean(kernel_bps) / 1e6:.2f} Mbit/s")
    assert mean(made_bps) == pytest.approx(mean(kernel_bps), rel=tolerance)


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
