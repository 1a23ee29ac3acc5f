"""TCP_INFO as `ss` reads it too, and the kernel's TCP between two hosts of a lab."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest
from oracles import oracle

from rawkit.errors import RawkitError
from rawkit.lab import Lab
from rawkit.report.analysis import Roles
from rawkit.report.figures import panels
from rawkit.report.run import Run
from rawkit.tools.kerneltcp import TcpInfo, kernel_transfer, tcp_info
from rawkit.wire import TCP


@pytest.mark.net
def test_it_is_what_ss_says() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as one,
    ):
        other, _ = listener.accept()
        with other:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
            for _ in range(40):
                one.sendall(bytes(5000))
                assert len(other.recv(5000, socket.MSG_WAITALL)) == 5000
            port = one.getsockname()[1]
            shown = subprocess.run(
                [oracle("ss"), "-tinH", f"sport = :{port}"], capture_output=True, text=True, check=True
            )
            ours = tcp_info(one)
    theirs = dict(re.findall(r"(\w+):([\d.]+)", shown.stdout))
    rtt, rttvar = re.findall(r"rtt:([\d.]+)/([\d.]+)", shown.stdout)[0]
    assert ours.mss == int(theirs["mss"])
    assert ours.cwnd == int(theirs["cwnd"]) * ours.mss
    assert ours.ssthresh == int(theirs.get("ssthresh", 0)) * ours.mss
    assert ours.rto_ns == float(theirs["rto"]) * 1e6
    assert ours.srtt_ns == pytest.approx(float(rtt) * 1e6)
    assert ours.rttvar_ns == pytest.approx(float(rttvar) * 1e6)
    assert ours.min_rtt_ns == pytest.approx(float(theirs["minrtt"]) * 1e6)
    assert ours.acked == int(theirs["bytes_acked"])
    assert ours.state == 1
    assert re.search(rf"pacing_rate {ours.pacing_bps}(\.0)?bps", shown.stdout)
    assert re.search(rf"delivery_rate {ours.delivery_bps}(\.0)?bps", shown.stdout)


def test_what_an_old_kernel_tells_is_too_little() -> None:
    with pytest.raises(RawkitError, match="TCP_INFO of 104 octets: this kernel is too old"):
        TcpInfo.parse(bytes(104))


@pytest.mark.net
@pytest.mark.parametrize("version", [4, 6])
def test_a_transfer_is_sampled_and_plotted(version: int) -> None:
    with Lab(delay="5ms", loss="2%", seed=4) as lab:
        made = kernel_transfer(lab, 400_000, control="reno", version=version)
    assert made.metrics()["complete"]
    assert made.metrics()["retransmissions"] > 0
    assert 0 < made.goodput_bps < 1e9
    run = Run(made.trace, Roles(TCP), "kernel reno", made.metrics())
    assert run.hosts == ("a", "b")
    every = {panel.key: panel for panel in panels(run)}
    assert list(every) == ["window", "rtt", "goodput"]
    assert {line.name for line in every["window"].lines} >= {"in flight", "congestion window"}
    smoothed = next(line for line in every["rtt"].lines if line.name == "smoothed (SRTT)")
    assert all(y is not None and y > 9 for y in smoothed.ys[2:])  # twice 5 ms
    with Lab() as lab, pytest.raises(OSError, match="No such file"):
        kernel_transfer(lab, 1000, control="none-such")
