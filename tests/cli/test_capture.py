"""`rawkit capture`: the ready line, how it ends, and a file that is valid whatever happens."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from capturing import FILTER, capturing, comments_of, finish, frames_of, say, texts, tshark_fields, wait_for
from oracles import NOBODY, has_other_users, oracle

from rawkit.engine import compile_filter
from rawkit.net import ethtool
from rawkit.pcap import open_pcap

if TYPE_CHECKING:
    from conftest import VethPair

pytestmark = pytest.mark.net


def test_after_the_ready_line_nothing_is_missed() -> None:
    with capturing("-i", "lo", "-c", "5", *FILTER) as process:
        say(5)
        output, messages = finish(process)
    assert process.returncode == 0
    lines = output.splitlines()
    assert len(lines) == 5
    assert all("127.0.0.1" in line and "9999" in line for line in lines)
    assert messages == "5 packets captured, 5 received by the filter, 0 dropped by the kernel\n"


def test_the_ready_line_names_interface_and_filter() -> None:
    argv = [sys.executable, "-m", "rawkit", "capture", "-i", "lo", "--duration", "100ms", "port 1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert done.stdout == ""
    assert done.stderr == (
        "capturing on lo, filter 'port 1'\n"
        "0 packets captured, 0 received by the filter, 0 dropped by the kernel\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_a_whole_file_and_its_statistics(tmp_path: Path, number: int) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "-w", str(path), *FILTER) as process:
        begin_ns = time.time_ns()
        say(2000)
        process.send_signal(number)  # at once: what is queued must not be lost
        output, messages = finish(process)
    assert (process.returncode, output) == (0, "")
    assert messages == (
        "2000 packets captured, 2000 received by the filter, 0 dropped by the kernel; "
        f"2000 written to {path}\n"
    )
    assert texts(frames_of(path)) == list(range(2000))
    with open_pcap(path) as reader:
        for _ in reader:
            pass
        (statistics,) = reader.statistics
        (interface,) = reader.interfaces
    assert (interface.name, interface.filter) == ("lo", "udp port 9999")
    assert (statistics.accepted, statistics.os_dropped, statistics.delivered) == (2000, 0, 2000)
    assert statistics.start_ns is not None
    assert statistics.end_ns is not None
    assert statistics.start_ns <= begin_ns <= statistics.end_ns == statistics.time_ns


def test_ended_right_after_a_burst_the_file_has_all_of_it(tmp_path: Path) -> None:
    """Also what lies in a block that the kernel has not handed over yet."""
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "--latency", "1s", "-w", str(path), *FILTER) as process:
        say(60)
        process.send_signal(signal.SIGINT)
        told = finish(process)[1]
    assert process.returncode == 0
    assert told.startswith(
        "60 packets captured, 60 received by the filter, 0 dropped by the kernel; 60 written"
    )
    assert texts(frames_of(path)) == list(range(60))


def test_the_second_interrupt_does_not_wait_for_the_open_block() -> None:
    with capturing("-i", "lo", "--latency", "1s", *FILTER) as process:
        say(1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        finish(process)
    assert process.returncode == 130


def test_packets_are_cut_on_request(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "-c", "2", "-s", "44", "-w", str(path), *FILTER) as process:
        say(2, octets=bytes(100))
        finish(process)
    assert [(len(frame.data), frame.wire_len) for frame in frames_of(path)] == [(44, 148)] * 2


def test_a_small_buffer_drops_and_the_sums_are_right(tmp_path: Path) -> None:
    """A reader who stands still loses what does not fit, and every number tells."""
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "--buffer", "1", "--json", "-w", str(path), *FILTER) as process:
        process.send_signal(signal.SIGSTOP)
        say(5000, octets=bytes(1000))
        process.send_signal(signal.SIGCONT)
        wait_for(path, 500)
        process.send_signal(signal.SIGINT)
        output, told = finish(process)
    summary = json.loads(output.splitlines()[-1])
    assert summary["received"] == 5000
    assert summary["dropped"] > 3000
    assert summary["captured"] == summary["written"] == 5000 - summary["dropped"]
    assert f"5000 received by the filter, {summary['dropped']} dropped by the kernel" in told
    assert texts(frames_of(path)) == list(range(summary["captured"]))
    with open_pcap(path) as reader:
        for _ in reader:
            pass
        (statistics,) = reader.statistics
    assert (statistics.accepted, statistics.os_dropped) == (5000, summary["dropped"])
    assert statistics.delivered == summary["captured"]


def test_explain_prints_where_the_filter_runs_and_captures_nothing(ordinary: list[str]) -> None:
    argv = [*ordinary, "-m", "rawkit", "capture", "-i", "lo", "--explain", "vlan 7 and tcp port 80"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == compile_filter("vlan 7 and tcp port 80").explain() + "\n"


def test_classic_pcap_by_name(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    with capturing("-i", "lo", "-c", "3", "-w", str(path), *FILTER) as process:
        say(3)
        finish(process)
    assert process.returncode == 0
    with open_pcap(path) as reader:
        assert reader.kind == "pcap"
    assert texts(frames_of(path)) == [0, 1, 2]


@pytest.mark.parametrize("name", ["out.pcapng", "out.pcapng.gz"])
def test_what_arrived_is_in_the_file_before_it_ends(tmp_path: Path, name: str) -> None:
    """A capture that is killed leaves what it saw up to its last breath, whole."""
    path = tmp_path / name
    with capturing("-i", "lo", "-w", str(path), *FILTER) as process:
        assert frames_of(path) == []
        say(10)
        wait_for(path, 10)
        process.kill()
        finish(process)
    assert texts(frames_of(path)) == list(range(10))


def test_json_is_one_object_a_line() -> None:
    with capturing("-i", "lo", "-c", "3", "--json", *FILTER) as process:
        say(3)
        output, _ = finish(process)
    header, *packets, summary = map(json.loads, output.splitlines())
    assert header == {"type": "header", "schema": "rawkit.capture/1"}
    assert [packet["number"] for packet in packets] == [1, 2, 3]
    assert {(p["type"], p["interface"], p["direction"], p["linktype"]) for p in packets} == {
        ("packet", "lo", "in", 1)
    }
    assert [layer["layer"] for layer in packets[0]["layers"]] == ["Ether", "IPv4", "UDP"]
    assert packets[0]["payload"] == b"000000".hex()
    assert summary == {
        "type": "summary", "interface": "lo", "captured": 3, "received": 3, "dropped": 0,
        "merged": 0, "interruptions": 0,
        "interfaces": [{"name": "lo", "captured": 3, "received": 3, "dropped": 0}],
        "file": None, "files": None, "written": None,
    }  # fmt: skip


def test_packets_longer_than_the_wire_carries_are_explained(veth: VethPair, tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", veth.near, "-c", "2", "-w", str(path), *FILTER) as process:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(bytes(100), (veth.far_ipv4, 9999))
            sock.setsockopt(17, 103, 1000)  # SOL_UDP, UDP_SEGMENT
            sock.sendto(bytes(5000), (veth.far_ipv4, 9999))
        told = finish(process)[1].splitlines()
    assert told[1].startswith("1 packet longer than on the wire: the kernel merges segments")
    assert "ethtool -K v0 gro off" in told[1]
    assert [frame.wire_len for frame in frames_of(path)] == [142, 5042]


def test_files_by_size_follow_each_other_without_a_gap(tmp_path: Path) -> None:
    """Each is valid by itself, has its statistics, and is over the size by one packet at most."""
    with capturing("-i", "lo", "-C", "128k", "--json", "-w", str(tmp_path / "out.pcap"), *FILTER) as process:
        say(500, octets=bytes(1000))
        process.send_signal(signal.SIGINT)
        output, messages = finish(process)
    files = [tmp_path / f"out.pcap{number or ''}" for number in range(5)]
    assert sorted(tmp_path.iterdir()) == files
    assert messages.startswith("500 packets captured")
    assert messages.endswith(f"; 500 written to 5 files, the last is {files[-1]}\n")
    summary = json.loads(output.splitlines()[-1])
    assert (summary["file"], summary["files"], summary["written"]) == (str(files[-1]), 5, 500)
    assert [n for path in files for n in texts(frames_of(path))] == list(range(500))
    for path in files[:-1]:
        assert 131072 <= path.stat().st_size < 131072 + 1064
    with open_pcap(files[-1]) as reader:  # by the name that was given, not the one with the number
        assert reader.kind == "pcap"


def test_a_ring_of_files_keeps_the_newest_also_when_killed(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "-C", "64k", "-W", "3", "-w", str(path), *FILTER) as process:
        say(1000, octets=bytes(1000))
        wait_for(tmp_path / "out.pcapng1", 1000 % 60, last=999)  # 64 KiB hold 60: this is the 17th file
        process.kill()
        finish(process)
    newest = [tmp_path / f"out.pcapng{number}" for number in (2, 0, 1)]
    assert sorted(tmp_path.iterdir()) == sorted(newest)
    found = [texts(frames_of(path)) for path in newest]
    assert [n for inside in found for n in inside] == list(range(14 * 60, 1000))
    assert [len(inside) for inside in found] == [60, 60, 40]


def test_files_by_time_and_the_last_of_them(tmp_path: Path) -> None:
    with capturing("-i", "lo", "-G", "1", "-W", "2", "-w", str(tmp_path / "%Y.pcapng"), *FILTER) as process:
        begun = time.monotonic()
        sent = 0
        while process.poll() is None:
            say(1)
            sent += 1
            time.sleep(0.01)
        assert time.monotonic() - begun > 1.5
        messages = finish(process)[1]
    assert process.returncode == 0
    first, second = sorted(tmp_path.iterdir())
    assert (first.name, second.name) == (time.strftime("%Y.pcapng"), time.strftime("%Y.pcapng1"))
    written = [len(frames_of(path)) for path in (first, second)]
    assert min(written) > 0
    assert sum(written) <= sent
    assert f"; {sum(written)} written to 2 files" in messages
    for path in (first, second):
        with open_pcap(path) as reader:
            for _ in reader:
                pass
            assert [statistics.os_dropped for statistics in reader.statistics] == [0]


def test_a_descriptor_is_told_when_nothing_can_be_missed_any_more() -> None:
    reader, ready = os.pipe()
    argv = [
        sys.executable,
        "-m",
        "rawkit",
        "capture",
        "-i",
        "lo",
        "-c",
        "5",
        "--ready-fd",
        str(ready),
        *FILTER,
    ]
    with subprocess.Popen(argv, pass_fds=[ready], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(ready)
        with os.fdopen(reader, "rb") as pipe:
            assert pipe.read() == b"\n"  # up to the end: it was closed
        say(5)
        output = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    assert len(output.splitlines()) == 5


def test_a_terminal_shows_the_rate_while_a_file_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    terminal, end = pty.openpty()
    argv = [sys.executable, "-m", "rawkit", "capture", "-i", "lo", "-w", str(path), *FILTER]
    with os.fdopen(terminal, "rb", buffering=0) as screen, subprocess.Popen(argv, stderr=end) as process:
        os.close(end)
        shown = b""
        while b"0 packets, 0 packets/s, 0.0 MB/s written, 0 dropped" not in shown:
            shown += screen.read(4096)
        say(7)
        while b"\r\x1b[K7 packets, " not in shown:
            shown += screen.read(4096)
        process.send_signal(signal.SIGINT)
        with suppress(OSError):  # EIO: the other end was closed
            while True:
                shown += screen.read(4096)
    assert process.returncode == 0
    last = shown.decode().rpartition("\x1b[K")[2]
    assert last.startswith("7 packets captured, 7 received by the filter")


def test_the_file_says_where_it_was_made_and_why_it_ended(veth: VethPair, tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    args = ["-i", veth.near, "-s", "96", "--comment", "first", "--comment", "zweiter \u2713"]
    with capturing(*args, "-w", str(path), *FILTER) as process:
        process.send_signal(signal.SIGTERM)
        finish(process)
    text = subprocess.run([oracle("capinfos"), path], capture_output=True, text=True, check=True).stdout
    lines = {line.strip() for line in text.splitlines()}
    system = os.uname()
    assert {
        "Capture application: rawkit 0.1.0",
        f"Capture oper-sys:    {system.sysname} {system.release}",
        "Capture comment:     first",
        "Capture comment:     zweiter \u2713",
        f"Name = {veth.near}",
        "Description = veth",
        "Hardware = veth",
        f"Operating system = {system.sysname} {system.release}",
        "Filter string = udp port 9999",
        "Capture length = 96",
        "Number of stat entries = 1",
    } <= lines
    assert f"Capture hardware:    {system.machine}" in text
    (comment,) = comments_of(path, 1)
    on, _, off = comment.removeprefix("MTU 1500; offloads on: ").partition("; off: ")
    told = dict.fromkeys(on.split(", "), True) | dict.fromkeys(filter(None, off.split(", ")), False)
    assert told == ethtool.offloads(veth.near)
    assert comments_of(path, 5) == ["ended by SIGTERM"]
    with open_pcap(path) as reader:
        addresses = [dict(block.options)[6] for block in reader.blocks() if block.kind == 1]
    assert addresses == [veth.near_mac]


def say_far(veth: VethPair, text: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, (veth.far_ipv4, 9999))


def test_several_interfaces_in_one_file(veth: VethPair, tmp_path: Path) -> None:
    """Each packet names its interface, and each interface has its description and counters."""
    path = tmp_path / "out.pcapng"
    with capturing("-i", veth.near, "-i", "lo", "-c", "4", "-w", str(path), *FILTER) as process:
        for text in (b"000000", b"000002"):
            say_far(veth, text)
            say(1)
        messages = finish(process)[1]
    assert messages.startswith("4 packets captured, 4 received by the filter, 0 dropped")
    rows = tshark_fields(path, "frame.interface_name", "frame.packet_flags_direction", "frame.time_epoch")
    rows.sort(key=lambda row: row[2])  # a machine that stood still meanwhile may have mixed them up
    assert [row[:2] for row in rows] == [[veth.near, "0x00000002"], ["lo", "0x00000001"]] * 2
    with open_pcap(path) as reader:
        kinds = [block.kind for block in reader.blocks()]
    assert kinds == [0x0A0D0D0A, 1, 1, 6, 6, 6, 6, 5, 5]
    with open_pcap(path) as reader:
        assert len(list(reader)) == 4
        assert [(i.name, i.filter) for i in reader.interfaces] == [
            (veth.near, "udp port 9999"), ("lo", "udp port 9999"),
        ]  # fmt: skip
        assert [(s.interface, s.accepted, s.delivered) for s in reader.statistics] == [
            (veth.near, 2, 2), ("lo", 2, 2),
        ]  # fmt: skip


def test_any_names_the_interface_of_each_packet(veth: VethPair, tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", "any", "-Q", "inout", "-c", "2", "-w", str(path), *FILTER) as process:
        say_far(veth, b"000000")
        say(1)
        finish(process)
    assert tshark_fields(path, "frame.interface_name", "frame.protocols", "udp.dstport", "sll.pkttype") == [
        [veth.near, "sll:ethertype:ip:udp:data", "9999", "4"],
        ["lo", "sll:ethertype:ip:udp:data", "9999", "0"],
    ]
    with open_pcap(path) as reader:
        assert len(list(reader)) == 2
        assert [i.name for i in reader.interfaces][:2] == ["any", "lo"]
        assert [(s.interface, s.delivered) for s in reader.statistics] == [("any", 2)]


def test_of_several_interfaces_each_line_names_its_own(veth: VethPair) -> None:
    with capturing("-i", veth.near, "-i", "lo", "-c", "2", *FILTER) as process:
        say_far(veth, b"000000")
        say(1)
        output, messages = finish(process)
    first, second = sorted(output.splitlines())
    assert messages.splitlines()[1:] == [
        f"{veth.near}: 1 captured, 1 received, 0 dropped",
        "lo: 1 captured, 1 received, 0 dropped",
    ]
    assert f" {veth.near} out IP {veth.near_ipv4}." in first
    assert " lo in IP 127.0.0.1." in second


def test_it_stops_at_a_packet_or_a_size(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    for limit, n in ((["--until", "udp[13] = 0x37"], 8), (["--octets", "1k"], 22)):  # 48 octets each
        with capturing("-i", "lo", *limit, "-w", str(path), *FILTER) as process:
            say(60)
            finish(process)
        assert process.returncode == 0
        assert texts(frames_of(path)) == list(range(n))


@pytest.fixture
def other_users() -> None:
    if not has_other_users():
        pytest.skip("root of this namespace is the only user in it")


def status_of(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.usefixtures("other_users")
@pytest.mark.parametrize("printing", [[], ["--tee"], ["--tee", "--json"]])
def test_as_another_user_it_goes_on_with_a_file_that_only_root_may_open(
    tmp_path: Path, printing: list[str]
) -> None:
    tmp_path.chmod(0o700)
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "-Z", "nobody", "-w", str(path), *printing, *FILTER) as process:
        status = status_of(process.pid)  # before the first packet
        say(10)
        process.send_signal(signal.SIGINT)
        messages = finish(process)[1]
    assert status["Uid"] == [str(NOBODY)] * 4
    assert status["CapEff"] == status["CapBnd"] == ["0" * 16]
    assert process.returncode == 0
    assert messages.startswith("10 packets captured")
    assert texts(frames_of(path)) == list(range(10))
    assert path.stat().st_uid == 0


@pytest.mark.usefixtures("other_users")
def test_as_another_user_it_makes_the_files_of_a_series_itself() -> None:
    args = ["-i", "lo", "-Z", "nobody", "-C", "1k", "-W", "2", *FILTER]
    with tempfile.TemporaryDirectory(dir="/tmp") as room:  # nobody could not get to what pytest makes
        os.chown(room, NOBODY, NOBODY)
        with capturing("-w", f"{room}/out.pcapng.gz", *args) as process:
            say(100)
            process.send_signal(signal.SIGINT)
            finish(process)
        files = sorted(Path(room).iterdir())
        assert [file.name for file in files] == ["out.pcapng0.gz", "out.pcapng1.gz"]
        assert {file.stat().st_uid for file in files} == {NOBODY}
        kept = sorted(n for file in files for n in texts(frames_of(file)))
    assert process.returncode == 0
    assert kept == list(range(kept[0], 100))


@pytest.mark.usefixtures("other_users")
def test_a_directory_where_that_user_may_not_write_is_refused_before_the_start(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    argv = [sys.executable, "-m", "rawkit", "capture", "-i", "lo", "-Z", "nobody", "-G", "1", "-w", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        f"rawkit capture: {path}: Permission denied; with -C and -G, files are made as user nobody"
    )
    assert not list(tmp_path.iterdir())


def test_a_user_who_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    argv = [sys.executable, "-m", "rawkit", "capture", "-i", "lo", "-Z", "no-such-user", "-w", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert done.stderr == "rawkit capture: there is no user 'no-such-user'\n"


def test_after_the_change_of_user_nothing_is_imported() -> None:
    """The other user may be unable to read this Python: whatever a packet looks like, all is there."""
    script = """
import os, sys
from rawkit.cli.capture import import_all
from rawkit.cli.lines import PacketPrinter, record
from rawkit.pcap import open_pcap
import_all()
before = set(sys.modules)
sys.stdout = open(os.devnull, "w")
for path in sys.argv[1:]:
    with open_pcap(path) as reader:
        for frame in reader:
            PacketPrinter(tree=True, dump=True).write(frame)
            record(frame, 1)
sys.exit(", ".join(set(sys.modules) - before) or None)
"""
    files = sorted(Path("pcaps").glob("*.pcap*"))
    assert files
    done = subprocess.run([sys.executable, "-c", script, *files], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_tee_writes_and_prints(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with capturing("-i", "lo", "-c", "2", "-w", str(path), "--tee", *FILTER) as process:
        say(2)
        output, _ = finish(process)
    assert len(output.splitlines()) == 2
    assert texts(frames_of(path)) == [0, 1]


def test_standard_output_as_the_file(tmp_path: Path) -> None:
    with capturing("-i", "lo", "-c", "2", "-w", "-", *FILTER, text=False) as process:
        say(2)
        output, _ = process.communicate(timeout=20)
    path = tmp_path / "out.pcapng"
    path.write_bytes(output)
    assert texts(frames_of(path)) == [0, 1]


def test_a_live_pipe_gets_packets_as_they_come() -> None:
    """`rawkit capture -w - | rawkit read -` shows a packet while the capture goes on."""
    with (
        capturing("-i", "lo", "-w", "-", *FILTER, text=False) as capture,
        subprocess.Popen(
            [sys.executable, "-m", "rawkit", "read", "-"],
            stdin=capture.stdout,
            stdout=subprocess.PIPE,
            text=True,
        ) as reader,
    ):
        assert capture.stdout is not None
        assert reader.stdout is not None
        say(1)
        assert "127.0.0.1" in reader.stdout.readline()
        capture.send_signal(signal.SIGINT)
        assert capture.wait(timeout=20) == 0
        capture.stdout.close()
        assert reader.wait(timeout=20) == 0


def test_a_reader_who_has_seen_enough_ends_it_quietly() -> None:
    with capturing("-i", "lo", *FILTER) as process:
        assert process.stdout is not None
        say(1)
        assert "127.0.0.1" in process.stdout.readline()
        process.stdout.close()
        say(1)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--tee"], "--tee needs -w FILE"),
        (["-w", "-", "--json"], "-w - gives standard output to the file"),
        (["-w", "-", "--tee"], "-w - gives standard output to the file"),
        (["--comment", "x", "-w", "x.pcap"], "--comment needs -w FILE.pcapng"),
        (["-i", "any"], "-i any means all interfaces"),
        (["--octets", "x"], "--octets: bad size 'x'"),
        (["--until", "bogus"], "filter 'bogus'"),
        (["--ready-fd", "77"], "--ready-fd 77: Bad file descriptor"),
        (["-W", "3"], "-W needs -C or -G"),
        (["-C", "1"], "-C and -G need -w FILE"),
        (["-G", "1", "-w", "-"], "-C and -G need -w FILE"),
        (["-G", "10ms", "-w", "x"], "-G: the shortest time is one second"),
        (["-C", "0", "-w", "x"], "-C: bad size '0'"),
        (["-C", "1T", "-w", "x"], "-C: bad size '1T'"),
        (["-C", "1", "-G", "1", "-W", "3", "-w", "x"], "-W has no meaning with both -C and -G"),
    ],
)
def test_options_that_contradict_each_other(args: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rawkit", "capture", "-i", "lo", *args],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"rawkit capture: {message}")
    assert done.stderr.count("\n") == 1
