"""`rawkit replay`: exit statuses, the report in words and as JSON, dry runs, and interruptions."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pyroute2 import IPRoute

from rawkit.engine import PacketSocket
from rawkit.lab import servers
from rawkit.pcap import create_pcap, open_pcap
from rawkit.tools.capture import Capture
from rawkit.wire import TCP, Dot1Q, Ether, IPv4, Packet, checksum
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from conftest import VethPair

HEADER = bytes.fromhex("00005e005302 00005e005301 88b5")
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
PCAPS = Path(__file__).parents[2] / "pcaps"


def replay(*args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rawkit", "replay", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def make(path: Path, n: int = 10, gap_ns: int = MS, *, odd: bool = False) -> Path:
    """A file of n numbered frames; `odd`: one too long, one cut short and one of another kind too."""
    with create_pcap(path) as writer:
        for i in range(n):
            writer.write(Frame(HEADER + bytes(42) + i.to_bytes(4, "big"), START_NS + i * gap_ns))
        if odd:
            end_ns = START_NS + n * gap_ns
            writer.write(Frame(HEADER + bytes(1600), end_ns))
            writer.write(Frame(HEADER, end_ns, wire_len=60))
            writer.write(Frame(b"\x45" + bytes(30), end_ns, linktype=101))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make(tmp_path / "in.pcapng")


@pytest.mark.net
def test_a_replay_in_words(veth: VethPair, tmp_path: Path) -> None:
    file = make(tmp_path / "in.pcapng", gap_ns=30 * MS)
    with veth.namespace.enter():
        live = Capture(veth.far, "ether proto 0x88b5")
    with live, open_pcap(file) as reader:
        done = replay(str(file), "-i", veth.near)
        live.stop()
        assert [frame.data for frame in live] == [frame.data for frame in reader]
    assert (done.returncode, done.stderr) == (0, "")
    first, how, second = done.stdout.splitlines()
    assert re.fullmatch(r"10 packets, 600 octets sent on v0 in \d\.\d{6} s \([\d,]+ packets/s\)", first)
    counted = re.fullmatch(
        r"by backend packet: exact for frames that go one by one; the interface counted (\d+) packets", how
    )
    assert counted is not None
    assert int(counted[1]) >= 10
    late = r"late by [\d.]+ us \(median\), [\d.]+ us \(p99\), [\d.]+ us \(max\)"
    assert re.fullmatch(f"{late}, by (transmit stamps|system calls)", second)


@pytest.mark.net
def test_a_replay_as_json(veth: VethPair, file: Path) -> None:
    done = replay(str(file), "-i", veth.near, "--pps", "100", "-l", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    header, report = map(json.loads, done.stdout.splitlines())
    assert header == {"type": "header", "schema": "rawkit.replay/1"}
    assert report.pop("timing_error").keys() == {"median_ns", "p99_ns", "max_ns"}
    late = report.pop("lateness")
    assert report.pop("lateness_by") in ("transmit stamps", "system calls")
    assert sum(row["frames"] for row in late) == 20
    assert all(row["below_ns"].bit_count() == 1 for row in late)
    # A machine that is full sends the first packets late, and the others at their time all the same.
    duration_ns = report.pop("duration_ns")
    assert 0 < duration_ns < 5000 * MS
    assert report.pop("pps") == pytest.approx(19e9 / duration_ns, rel=0.1)
    assert report.pop("start_ns") > START_NS
    assert report.pop("counted") >= 20
    assert report == {
        "type": "report", "file": str(file), "interface": "v0", "interface2": None, "backend": "packet",
        "backend_reason": "exact for frames that go one by one", "read": 20, "sent": 20, "octets": 1200,
        "cut": 0, "pieces": 0, "changed": 0, "finished": 0, "failed": {}, "skipped": {}, "unsent": 0,
    }  # fmt: skip


@pytest.mark.net
def test_how_late_packets_went_as_a_picture(veth: VethPair, file: Path) -> None:
    done = replay(str(file), "-i", veth.near, "--plot")
    assert (done.returncode, done.stderr) == (0, "")
    bars = [
        re.fullmatch(r" *[\d,.]+ to +[\d,.]+ us │[█▏]*( (\d+))?", line)
        for line in done.stdout.splitlines()[3:]
    ]
    assert sum(int(bar[2] or 0) for bar in bars if bar) == 10
    assert all(bars)


@pytest.mark.net
def test_what_did_not_go_out_is_told_with_the_reason(veth: VethPair, tmp_path: Path) -> None:
    path = make(tmp_path / "odd.pcapng", odd=True)
    done = replay(str(path), "-i", veth.near, "-t", "--backend", "packet")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[1].startswith("by backend packet: asked for; the interface counted ")
    assert done.stdout.splitlines()[2:] == [
        "1 failed: longer than the interface's MTU",
        "1 skipped: cut short by the capture",
        "1 skipped: link type 101 is not Ethernet",
    ]
    done = replay(str(path), "-i", veth.near, "-t", "--json")
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert report["timing_error"] is None
    assert (
        report["read"]
        == 13
        == report["sent"] + sum(report["failed"].values()) + sum(report["skipped"].values())
    )


def test_a_dry_run_sends_nothing_and_needs_no_interface(tmp_path: Path) -> None:
    path, out = make(tmp_path / "odd.pcapng", odd=True), tmp_path / "out.pcap"
    done = replay(
        str(path), "-i", "veth77", "-x", "2", "--dst-mac", "00:00:5e:00:53:aa", "--dry-run", str(out)
    )
    assert done.returncode == 1
    assert done.stderr == f"11 packets written to {out}, nothing sent\n"
    assert done.stdout.splitlines() == [
        "11 packets changed",
        "1 skipped: cut short by the capture",
        "1 skipped: link type 101 is not Ethernet",
    ]
    with open_pcap(out) as reader:
        frames = list(reader)
    assert [frame.time_ns for frame in frames] == [i * MS // 2 for i in range(11)]
    assert {frame.data[:12].hex() for frame in frames} == {"00005e0053aa00005e005301"}


def test_a_dry_run_as_json(file: Path, tmp_path: Path) -> None:
    done = replay(str(file), "-i", "veth77", "-L", "4", "--json", "--dry-run", str(tmp_path / "out.pcapng"))
    assert done.returncode == 0
    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["read"], report["sent"], report["unsent"]) == (4, 0, 4)


def test_the_file_being_read_is_not_overwritten(file: Path) -> None:
    before = file.read_bytes()
    done = replay(str(file), "-i", "veth77", "--dry-run", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"rawkit replay: {file} is the file being read; see 'rawkit replay --help'\n"
    assert file.read_bytes() == before


def test_what_is_changed_and_cut(tmp_path: Path) -> None:
    path, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    ether = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
    ip = IPv4(src="10.0.0.1", dst="10.0.0.2")
    unfinished = TCP(
        sport=80, dport=5, flags=TCP.ACK, checksum=checksum.pseudo_header(b"\n\0\0\1", b"\n\0\0\2", 6, 20)
    )
    with create_pcap(path) as writer:
        for i, upper in enumerate([Packet([unfinished]), TCP(sport=80, flags=TCP.ACK) / bytes(3000)]):
            writer.write(Frame(bytes(ether / ip / upper), START_NS + i))
    done = replay(
        str(path), "-i", "veth77", "--map", "10.0.0.0/24=192.0.2.0/24", "--dst-map", "10.0.0.2=198.51.100.1",
        "--port-map", "80-81=8080", "--vlan-add", "100:3", "--ttl", "9", "--dscp", "46",
        "--dry-run", str(out),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, f"4 packets written to {out}, nothing sent\n")
    assert done.stdout.splitlines() == [
        "1 packet longer than the MTU cut into 3",
        "1 checksum completed that had been left to hardware",
        "4 packets changed",
    ]
    with open_pcap(out) as reader:
        packets = [frame.packet() for frame in reader]
    assert all(verdict.state == "good" for packet in packets for verdict in packet.checksums())
    for packet in packets:
        assert (packet[Dot1Q].vid, packet[Dot1Q].pcp, packet[IPv4].ttl, packet[IPv4].dscp) == (100, 3, 9, 46)
        assert (str(packet[IPv4].src), str(packet[IPv4].dst)) == ("192.0.2.1", "198.51.100.1")
        assert packet[TCP].sport == 8080
    done = replay(str(path), "-i", "veth77", "--map", "10.9.0.0/16=10.8.0.0/16", "--dry-run", str(out))
    assert done.stdout.splitlines()[1:] == [
        "1 checksum completed that had been left to hardware",
        "1 packet changed",
    ]
    done = replay(str(path), "-i", "veth77", "--as-is", "--dry-run", str(out))
    with open_pcap(path) as before, open_pcap(out) as after:
        assert [frame.data for frame in before] == [frame.data for frame in after]


@pytest.mark.parametrize(
    "options",
    [
        "--map 10.0.0.0/8", "--map 10.0.0.0/8=::/0", "--map 10.0.0.1/8=10.0.0.0/8", "--port-map 80=65536",
        "--port-map 1-9=65530",
        "--loop-map 10.0.0.0/8", "--pps 1e-9", "-x 1e-9", "--start -1", "--plot", "--start inf",
        "-t --duration 1e300", "-x inf", "-x nan", "--wait inf",
        "--vlan-add 4096", "--vlan-add 1:2:3:4", "--as-is --ttl 3",
    ],
)  # fmt: skip
def test_changes_that_make_no_sense(file: Path, options: str) -> None:
    done = replay(str(file), "-i", "veth77", "--dry-run", str(file.with_name("out")), *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "unexpected" not in done.stderr


@pytest.mark.parametrize("options", [["-x", "2", "-t"], ["-p", "5", "-o"], ["-x", "2", "-M", "5"]])
def test_one_pace_at_a_time(file: Path, options: list[str]) -> None:
    done = replay(str(file), "-i", "lo", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "rawkit replay: --speed, --pps, --mbps, --topspeed and --one-at-a-time exclude each other"
    )


@pytest.mark.net
def test_ctrl_c_ends_it_with_what_was_sent(veth: VethPair, tmp_path: Path) -> None:
    path = make(tmp_path / "long.pcapng", n=1000, gap_ns=20 * MS)
    with veth.namespace.enter():
        live = Capture(veth.far, "ether proto 0x88b5")
    argv = [sys.executable, "-m", "rawkit", "replay", str(path), "-i", veth.near, "--json"]
    with live, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        arriving = iter(live)
        assert [next(arriving) for _ in range(5)]  # it is at work
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=10)
        live.stop()
        arrived = live.captured + sum(len(frames) for frames in live.batches())
    assert (process.returncode, messages) == (130, "")
    report = json.loads(output.splitlines()[-1])
    assert report["sent"] == arrived > 1
    assert report["sent"] + report["unsent"] == report["read"]


@pytest.mark.net
@pytest.mark.parametrize("change", ["down", "removed"])
def test_an_interface_that_goes_is_an_error_after_the_report(
    veth: VethPair, tmp_path: Path, change: str
) -> None:
    path = make(tmp_path / "long.pcapng", n=400, gap_ns=20 * MS)
    with veth.namespace.enter():
        watch = PacketSocket(veth.far, filter="ether proto 0x88b5")
    argv = [sys.executable, "-m", "rawkit", "replay", str(path), "-i", veth.near]
    with watch, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        next(watch.frames(timeout=10))
        with IPRoute() as route:
            if change == "down":
                route.link("set", index=veth.near_index, state="down")
            else:
                route.link("del", index=veth.near_index)
        output, messages = process.communicate(timeout=10)
    assert process.returncode == 2
    # One that is removed goes down first, and may be met just then.
    reasons = {"down": "Network is down", "removed": "(No such device or address|Network is down)"}
    assert re.fullmatch(f"rawkit replay: send on v0: {reasons[change]}\n", messages)
    assert re.match(r"[1-9]\d* packets?, ", output)
    assert re.search(r"^[1-9]\d* more read, not sent$", output, re.MULTILINE)


@pytest.mark.net
def test_standard_input_and_sleeping_instead_of_spinning(veth: VethPair, file: Path) -> None:
    argv = [sys.executable, "-m", "rawkit", "replay", "-", "-i", veth.near, "--no-spin"]
    with file.open("rb") as stream:
        done = subprocess.run(argv, stdin=stream, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("10 packets, 600 octets sent on v0")


@pytest.mark.net
def test_one_at_a_time(veth: VethPair, file: Path) -> None:
    argv = [sys.executable, "-m", "rawkit", "replay", str(file), "-i", veth.near, "-o"]
    with veth.namespace.enter():
        live = Capture(veth.far, "ether proto 0x88b5")
    with (
        live,
        subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        arriving = iter(live)
        assert process.stdin is not None
        for i in range(3):
            process.stdin.write("\n")
            process.stdin.flush()
            assert next(arriving).data[-1] == i
        output, messages = process.communicate("q\n", timeout=20)
        live.stop()
        assert not list(arriving)
    assert process.returncode == 0
    assert messages.count("[Enter sends, q ends]") == 4
    assert output.startswith("3 packets, 180 octets sent on v0")


@pytest.mark.net
def test_damage_is_an_error_after_the_report(veth: VethPair, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])
    done = replay(str(file), "-i", veth.near)
    assert done.returncode == 2
    assert done.stdout.startswith("9 packets, 540 octets sent on v0")
    assert re.fullmatch(rf"rawkit replay: {file}: .* \(offset \d+, after 9 packets\)\n", done.stderr)


# ---- --payload ----------------------------------------------------------------------------------------


@contextmanager
def lab_server() -> Iterator[int]:
    """The port, on loopback, of the server whose answers are in pcaps/http.pcapng."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        servers.serve_http(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield port
        listening.shutdown(socket.SHUT_RDWR)


def test_payloads_on_loopback_without_privilege() -> None:
    with lab_server() as port:
        done = replay(str(PCAPS / "http.pcapng"), "--payload", "--to", f"127.0.0.1:{port}")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "tcp 10.77.0.1:57526 > 10.77.0.2:80: same",
            "1 conversation, 1 answered as in the capture; 73 octets sent, 3962 received",
        ]
        done = replay(str(PCAPS / "http.pcapng"), "--payload", "--to", f"127.0.0.1:{port}", "-tl3", "--json")
    lines = list(map(json.loads, done.stdout.splitlines()))
    assert lines[0] == {"type": "header", "schema": "rawkit.replay-payload/1"}
    assert [line["verdict"] for line in lines[1:4]] == ["same"] * 3
    assert lines[4]["conversations"] == lines[4]["good"] == 3


def test_payloads_without_a_server() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        done = replay(str(PCAPS / "http.pcapng"), "--payload", "--to", f"127.0.0.1:{sock.getsockname()[1]}")
    assert (done.returncode, done.stderr) == (1, "")
    assert "failed: Connection refused" in done.stdout


def test_payloads_interrupted_and_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        argv = [
            sys.executable,
            "-m",
            "rawkit",
            "replay",
            str(PCAPS / "http.pcapng"),
            "--payload",
            "--wait",
            "60",
        ]
        argv += ["--to", f"127.0.0.1:{server.getsockname()[1]}"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            connection = server.accept()[0]
            with connection:
                assert connection.recv(100)  # it is at work, and waits for an answer
                process.send_signal(signal.SIGINT)
                output, messages = process.communicate(timeout=60)
        assert (process.returncode, output, messages) == (130, "", "rawkit replay: interrupted\n")
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            server.accept()[0].close()
            output, messages = process.communicate(timeout=60)
        assert (process.returncode, messages) == (1, "")
        assert re.search("(differs: 0 answers instead of 1|failed: )", output)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--payload", "--payload needs --to HOST[:PORT], or --to captured"),
        ("--payload --to 127.0.0.1 -i lo", "--payload sends no packets: --interface does not go with it"),
        ("--payload --to 127.0.0.1:0", "payload: port 0; possible are 1..65535"),
        ("--payload --to :80", "--to :80: say HOST or HOST:PORT"),
        ("--to 127.0.0.1 -i lo", "--to goes with --payload"),
        ("-t", "Missing option '-i' / '--interface'"),
    ],
)
def test_payload_options_that_make_no_sense(file: Path, options: str, said: str) -> None:
    done = replay(str(file), *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"rawkit replay: {said}; see 'rawkit replay --help'\n"
