"""Captures of simulated runs, read back and by tshark; the same octets in every process."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import oracles
import pytest

from rawkit.pcap import open_pcap
from rawkit.report.capture import write_pcapng
from rawkit.sim import Schedule, Transfer
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.wire import IPv4, Packet

RUN = Transfer(GoBackN, octets=5000, schedule=Schedule.parse("drop 3, corrupt 5 bit 99"))

SCRIPT = """
import hashlib, io, sys
from rawkit.report.capture import write_pcapng
from rawkit.sim import *
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat
from rawkit.transport.protocols.stop_and_wait import StopAndWait

models = (Bernoulli(0.05), Corrupt(0.02), Duplicate(0.05), Reorder(0.05, by_packets=2), Jitter("3ms"))
link = LinkSpec("10Mbit/s", "20ms", Red(), models, jitter="1ms")
for protocol in (StopAndWait, GoBackN, SelectiveRepeat):
    result = Transfer(protocol, octets=60_000, back=5_000, link=link, seed=int(sys.argv[1])).run()
    file = io.BytesIO()
    write_pcapng(result.trace, file)
    print(hashlib.sha256(file.getvalue()).hexdigest(), result.trace.digest(), len(result.trace))
"""


def test_hosts_and_losses_have_interfaces_of_their_own(tmp_path: Path) -> None:
    result = RUN.run()
    path = tmp_path / "run.pcapng"
    written = write_pcapng(result.trace, path)
    with open_pcap(path) as file:
        frames = list(file)
    assert len(frames) == written
    assert {frame.interface for frame in frames} == {"a", "b", "a>b:dropped"}
    (lost,) = [frame for frame in frames if frame.interface == "a>b:dropped"]
    assert lost.comments == ("packet 3 dropped: drop 3",)
    sent = [event for event in result.trace.of("send") if event.where == "a"]
    outgoing = [frame for frame in frames if frame.interface == "a" and frame.direction == "out"]
    assert [frame.time_ns for frame in outgoing] == [event.time_ns for event in sent]
    for frame, event in zip(outgoing, sent, strict=True):
        packet = Packet.parse(frame.data, IPv4)
        assert packet.payload == event.octets
        assert (str(packet[IPv4].src), packet[IPv4].protocol) == (event.src, 253)
        assert GoBackNHeader.parse(event.octets).flags


def test_tshark_reads_times_in_ns_and_the_reasons(tmp_path: Path) -> None:
    tshark = oracles.oracle("tshark")
    path = tmp_path / "run.pcapng"
    write_pcapng(RUN.run().trace, path)
    fields = ["frame.time_epoch", "frame.comment", "ip.proto", "ip.id", "frame.interface_name"]
    command = [tshark, "-r", str(path), "-T", "fields", *(word for name in fields for word in ("-e", name))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    (lost,) = [row for row in rows if row[1]]
    assert lost[1] == "packet 3 dropped: drop 3"
    assert (lost[2], lost[4]) == ("253", "a>b:dropped")
    assert int(lost[3], 0) == 3
    arrived = next(row for row in rows if row[4] == "b")
    assert arrived[0].startswith("0.020024")  # 30 octets at 10 Mbit/s, and 20 ms


@pytest.mark.parametrize("seed", [1, 2])
def test_two_processes_with_other_hashes_give_the_same_octets(seed: int) -> None:
    digests = []
    for hashes in ("1", "77"):
        environment = os.environ | {"PYTHONHASHSEED": hashes}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(seed)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stderr == ""
        digests.append(done.stdout)
    assert digests[0] == digests[1]
    assert len(set(digests[0].split())) == 9


def test_a_trace_as_csv_has_a_line_for_each_event() -> None:
    trace = RUN.run().trace
    lines = trace.to_csv().splitlines()
    assert lines[0] == "time_ns,kind,where,packet,src,dst,octets,ecn,detail,fields"
    assert len(lines) == len(trace) + 1
    assert any(line.startswith("40048000,drop,a>b,3,") for line in lines)
    stream = io.BytesIO()
    assert write_pcapng(trace, stream) == sum(1 for _ in trace.of("send", "arrive", "drop"))
