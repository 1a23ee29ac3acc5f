"""A kernel's TCP transfer with offloads on, captured, explained, and replayed as a wire would have had it."""

from __future__ import annotations

import math
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from capturing import capturing, finish, frames_of, tshark_fields
from oracles import oracle

from rawkit.lab import Host, Lab
from rawkit.pcap import open_pcap
from rawkit.wire import TCP
from rawkit.wire.frame import Frame

pytestmark = pytest.mark.net

LENGTH = 400_000
MTU = 1500
GSO = 1 << 11  # in the flags word of a packet block: "TCP segmentation offload"
NOTE = re.compile(
    r"(?:not cut yet \(GSO\)|merged \(GRO\), or never cut \(GSO\)): (\d+) segments of (\d+) octets"
    r"(, transport checksum not ready)?"
)


def transfer(lab: Lab) -> None:
    """LENGTH octets by TCP from a to b, and their number back."""
    with lab.b, socket.create_server((str(lab.b.ipv4), 9000)) as server:

        def serve() -> None:
            sock, _ = server.accept()
            with sock:
                n = 0
                while n < LENGTH:
                    n += len(sock.recv(1 << 16))
                sock.sendall(b"%d" % n)

        serving = threading.Thread(target=serve)
        serving.start()
        with lab.a, socket.create_connection((str(lab.b.ipv4), 9000)) as client:
            client.sendall(bytes(range(256)) * (LENGTH // 256) + bytes(LENGTH % 256))
            assert client.recv(100) == b"%d" % LENGTH
        serving.join()


def capture_transfer(lab: Lab, host: Host, path: Path, *options: str) -> list[Frame]:
    with host, capturing("-i", "veth0", *options, "-w", str(path), "tcp") as process:
        transfer(lab)
        process.send_signal(signal.SIGINT)
        messages = finish(process)[1]
    assert process.returncode == 0
    assert "longer than on the wire: the kernel merges segments" in messages
    return frames_of(path)


def flag_words(path: Path) -> list[int]:
    """The flags word of each packet, as it stands in the file."""
    with open_pcap(path) as reader:
        options = [dict(block.options) for block in reader.blocks() if block.kind == 6]
    return [int.from_bytes(found.get(2, b""), "little") for found in options]


@pytest.mark.parametrize("end", ["a", "b"])
def test_a_transfer_is_explained_and_replayed_in_pieces_of_wire_size(tmp_path: Path, end: str) -> None:
    path, arrived = tmp_path / "captured.pcapng", tmp_path / "arrived.pcapng"
    with Lab() as lab:
        frames = capture_transfer(lab, getattr(lab, end), path)

    # Every merged frame is flagged and says what it stands for; no other frame is.
    merged = [frame.wire_len > MTU + 14 for frame in frames]
    assert sum(merged) >= 3
    assert [bool(word & GSO) for word in flag_words(path)] == merged
    for frame in frames:
        if frame.wire_len <= MTU + 14:
            assert frame.comments == ()
            continue
        (comment,) = frame.comments
        found = NOTE.fullmatch(comment)
        assert found is not None, comment
        assert math.ceil(len(frame.packet().payload) / int(found[2])) == int(found[1])
        assert int(found[2]) == frame.gso_len <= MTU - 40
        assert bool(found[3]) is (frame.checksum == "not ready")

    # So it is where the file is printed, once behind each packet.
    argv = [sys.executable, "-m", "rawkit", "read", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert [line.count(" segments of ") for line in done.stdout.splitlines()] == [int(one) for one in merged]
    assert "bad" not in done.stdout

    # Whatever tshark would call bad is an unfinished checksum, flagged, and never called bad by us.
    checked = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
    fields = ("tcp.checksum.status", "ip.checksum.status")
    for frame, (tcp, ip) in zip(frames, tshark_fields(path, *fields, options=checked), strict=True):
        assert ip == "1"
        if tcp != "1":
            assert frame.checksum == "not ready"
        states = {verdict.layer: verdict.state for verdict in frame.checksums()}
        assert "bad" not in states.values()
        assert states[TCP] in ("good", "not filled in")

    # Replayed into a second lab, what arrives is what a wire carries, and tshark finds nothing wrong.
    with Lab() as lab, ExitStack() as stack:
        with lab.b:
            process = stack.enter_context(capturing("-i", "veth0", "-Q", "in", "-w", str(arrived), "tcp"))
        argv = [sys.executable, "-m", "rawkit", "replay", str(path), "-i", "veth0", "--topspeed"]
        done = lab.a.run(argv, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        process.send_signal(signal.SIGINT)
        finish(process)
    pieces = frames_of(arrived)
    assert max(frame.wire_len for frame in pieces) <= MTU + 14
    assert tshark_fields(arrived, *fields, options=checked) == [["1", "1"]] * len(pieces)
    assert carried(pieces) == carried(frames) == LENGTH + len(str(LENGTH))
    # (That a window was full is true, and the receiving kernel's affair.)
    errors = "_ws.expert.severity >= 8388608 || tcp.analysis.lost_segment || tcp.analysis.ack_lost_segment"
    errors += " || tcp.analysis.retransmission || tcp.analysis.out_of_order"
    argv = [oracle("tshark"), "-n", "-r", str(arrived), *checked, "-Y", errors]
    assert subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout == ""


def test_split_on_the_way_the_file_holds_what_a_wire_carries(tmp_path: Path) -> None:
    path = tmp_path / "split.pcapng"
    with Lab() as lab:
        frames = capture_transfer(lab, lab.a, path, "--split")
    assert max(frame.wire_len for frame in frames) == MTU + 14
    assert carried(frames) == LENGTH + len(str(LENGTH))
    full = [frame for frame in frames if frame.wire_len == MTU + 14]
    assert {(frame.direction, frame.gso_len, frame.comments) for frame in full} == {("out", 0, ())}
    # The kernel may send one segment by itself now and then: not split, its checksum unfinished.
    segments = [frame for frame in full if frame.checksum == ""]
    assert len(segments) > len(full) / 2
    assert {frame.checksum for frame in full} <= {"", "not ready"}
    states = [verdict.state for frame in segments for verdict in frame.checksums()]
    assert set(states) == {"good"}
    errors = "_ws.malformed || tcp.analysis.lost_segment || tcp.analysis.retransmission"
    argv = [oracle("tshark"), "-n", "-r", str(path), "-Y", errors]
    assert subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout == ""


def carried(frames: list[Frame]) -> int:
    """Octets of TCP payload."""
    return sum(len(frame.packet().payload) for frame in frames)
