"""`rawkit read`: which packets, in which form, compared with tcpdump; damage after what precedes it."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from oracles import tcpdump

from rawkit.cli.main import main
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire.frame import Frame

PCAPS = Path(__file__).parents[2] / "pcaps"
FIXTURES = sorted(PCAPS.glob("*.pcapng"))
HTTP = PCAPS / "http.pcapng"


def read(*args: str | Path, stdin: bytes | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rawkit", "read", *map(str, args)]
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=60, env=os.environ | env)
    return subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(), done.stderr.decode())


def lines(*args: str | Path) -> list[str]:
    done = read(*args)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_there_are_fixtures() -> None:
    assert len(FIXTURES) >= 6


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "tcp",
        "udp port 53",
        "icmp or icmp6",
        "src host 10.77.0.1",
        "ip6 and dst net fd77::/64",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "greater 1000",
        "less 70",
        "icmp[icmptype] == icmp-unreach",
        "tcp port 80 and ip[2:2] > 1500",
        "arp",
        "ether broadcast or ether multicast",
        "tcp src portrange 1024-65535 and not ip6",
        "vlan",
    ],
)
def test_filters_choose_what_tcpdump_chooses(expression: str, capsys: pytest.CaptureFixture[str]) -> None:
    for path in FIXTURES:
        shown = subprocess.run(
            [*tcpdump(), "-n", "-tt", "--time-stamp-precision=nano", "-r", path, expression],
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout  # fmt: skip
        theirs = re.findall(r"^(\d+\.\d{9}) ", shown, re.MULTILINE)
        assert main(["read", "-t", "epoch", str(path), expression], standalone_mode=False) == 0
        ours = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
        assert ours == theirs, path.name


def test_an_expression_may_be_several_words() -> None:
    assert lines(HTTP, "tcp", "and", "src", "port", "80") == lines(HTTP, "tcp and src port 80")


def test_count_and_number() -> None:
    everything = lines("-t", "epoch", HTTP)
    assert lines("-t", "epoch", "-c", "3", HTTP) == everything[:3]
    assert lines("-t", "epoch", "-n", "4", HTTP) == everything[3:4]
    answers = [line for line in everything if " 10.77.0.2" in line.split(">")[0]]
    assert lines("-t", "epoch", "-c", "2", HTTP, "src host 10.77.0.2") == answers[:2]
    assert lines("-n", "1", HTTP, "src host 10.77.0.2") == []


def test_a_number_past_the_end_is_an_error() -> None:
    done = read("-n", "99", HTTP)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"rawkit read: {HTTP} has no packet number 99; see 'rawkit read --help'\n"


@pytest.mark.parametrize("name", ["out.pcapng", "out.pcap"])
def test_writing_a_selection(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    done = read(HTTP, "src host 10.77.0.2", "-w", out)
    with open_pcap(HTTP) as reader:
        wanted = [frame for frame in reader if frame.data[26:30] == bytes([10, 77, 0, 2])]
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"{len(wanted)} packets written to {out}\n"
    with open_pcap(out) as reader:
        written = list(reader)
    if name.endswith("ng"):
        assert written == wanted
    assert [(f.time_ns, f.data, f.wire_len) for f in written] == [
        (f.time_ns, f.data, f.wire_len) for f in wanted
    ]


def test_what_is_written_keeps_all_that_is_no_packet(tmp_path: Path) -> None:
    """Names, secrets, unknown blocks and options: the blocks are copied as they stand."""
    source, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    unknown = struct.pack("<II4sI", 0x777, 16, b"what", 16)
    source.write_bytes(HTTP.read_bytes() + unknown)
    for words, picked in ((["-n", "3"], [2]), (["-c", "2"], [0, 1]), ([], range(10_000))):
        assert read(*words, source, "-w", out).returncode == 0
        with open_pcap(source) as old, open_pcap(out) as new:
            blocks = [block.octets for block in old.blocks()]
            packets = [octets for octets in blocks if octets[0] == 6]
            written = [block.octets for block in new.blocks()]
        assert [o for o in written if o[0] == 6] == [o for n, o in enumerate(packets) if n in picked]
        assert written[1] == blocks[1]
    assert written[-1] == unknown
    assert read("-n", "99", source, "-w", out).stderr.startswith(
        f"rawkit read: {source} has no packet number 99"
    )


def test_a_full_disk_is_an_error() -> None:
    done = read(HTTP, "-w", "/dev/full")
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert "written to" not in done.stderr


def test_writing_nothing_still_makes_a_file(tmp_path: Path) -> None:
    for name in ("out.pcapng", "out.pcap"):
        assert read(HTTP, "port 1", "-w", tmp_path / name).returncode == 0
        assert lines(tmp_path / name) == []


def test_writing_to_standard_output() -> None:
    argv = [sys.executable, "-m", "rawkit", "read", "-w", "-", "-c", "2", str(HTTP)]
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert read("-t", "epoch", "-", stdin=done.stdout).stdout.splitlines() == lines(
        "-t", "epoch", "-c", "2", HTTP
    )


def test_the_file_being_read_is_not_overwritten(tmp_path: Path) -> None:
    path, link = tmp_path / "in.pcapng", tmp_path / "link.pcapng"
    path.write_bytes(HTTP.read_bytes())
    link.symlink_to(path)
    for out in (path, link):
        done = read(path, "-w", out)
        assert done.returncode == 2
        assert done.stderr == f"rawkit read: {out} is the file being read; see 'rawkit read --help'\n"
    assert path.read_bytes() == HTTP.read_bytes()


def test_headers_below_the_line() -> None:
    output = read("-v", "-n", "1", HTTP).stdout
    first, *tree = output.splitlines()
    assert lines("-n", "1", HTTP) == [first]
    assert all(line.startswith("        ") for line in tree)
    names = [line.strip() for line in tree if re.fullmatch(r" {8}\w+", line)]
    assert names == ["Ether", "IPv4", "TCP"]
    assert re.search(r"^ +dport +80\b", output, re.MULTILINE)


def test_octets_below_the_line() -> None:
    _, *dump = lines("-x", "-n", "4", HTTP)
    with open_pcap(HTTP) as reader:
        frame = list(reader)[3]
    # offset, two groups of eight, characters
    octets = "".join(line[8:][6:54].replace(" ", "") for line in dump)
    assert bytes.fromhex(octets) == frame.data
    assert "GET / HTTP" in "".join(line[-16:] for line in dump)


def test_standard_input_is_a_file_like_any_other() -> None:
    done = read("-", stdin=HTTP.read_bytes())
    assert (done.returncode, done.stdout.splitlines()) == (0, lines(HTTP))


def test_a_damaged_file_gives_what_came_before_then_the_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcapng"
    path.write_bytes(HTTP.read_bytes()[:-100])
    done = read(path)
    shown = done.stdout.splitlines()
    assert done.returncode == 2
    assert 0 < len(shown) < len(lines(HTTP))
    assert shown == lines(HTTP)[: len(shown)]
    assert re.fullmatch(rf"rawkit read: {path}: .* \(offset \d+, after {len(shown)} packets\)\n", done.stderr)


def test_damage_after_what_was_wanted_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcapng"
    path.write_bytes(HTTP.read_bytes()[:-100])
    assert lines("-c", "2", path) == lines("-c", "2", HTTP)
    assert lines("-n", "2", path) == lines("-n", "2", HTTP)


@pytest.fixture
def moments(tmp_path: Path) -> Path:
    """Two packets, the second before the first."""
    path = tmp_path / "moments.pcapng"
    with create_pcap(path) as writer:
        for time_ns in (1_700_000_000_123_456_789, 1_699_999_999_000_000_001):
            writer.write(Frame(bytes(14), time_ns))
    return path


def test_times_are_exact_to_the_nanosecond(moments: Path) -> None:
    def times(style: str) -> list[str]:
        return [line.split()[0] for line in read("-t", style, moments, TZ="UTC").stdout.splitlines()]

    assert times("epoch") == ["1700000000.123456789", "1699999999.000000001"]
    assert times("relative") == ["0.000000000", "-1.123456788"]
    assert times("clock") == ["22:13:20.123456789", "22:13:19.000000001"]
    assert read(moments, TZ="UTC-2").stdout.startswith("00:13:20.123456789 ")  # two hours ahead
    first, second = [json.loads(line) for line in lines("--json", moments)[1:]]
    assert (first["time_ns"], first["time"]) == (1_700_000_000_123_456_789, "2023-11-14T22:13:20.123456789Z")
    assert (second["time_ns"], second["time"]) == (
        1_699_999_999_000_000_001,
        "2023-11-14T22:13:19.000000001Z",
    )


def test_json_is_one_object_a_line() -> None:
    header, *packets = map(json.loads, lines("--json", HTTP, "tcp port 80"))
    assert header == {"type": "header", "schema": "rawkit.read/1"}
    with open_pcap(HTTP) as reader:
        frames = list(reader)
    assert [packet["number"] for packet in packets] == list(range(1, len(frames) + 1))
    for packet, frame in zip(packets, frames, strict=True):
        assert packet["type"] == "packet"
        assert (packet["time_ns"], packet["wire_len"], packet["interface"], packet["direction"]) == (
            frame.time_ns, frame.wire_len, frame.interface, frame.direction,
        )  # fmt: skip
        assert [layer["layer"] for layer in packet["layers"]][:3] == ["Ether", "IPv4", "TCP"]
        assert {verdict["layer"] for verdict in packet["checksums"]} == {"IPv4", "TCP"}


def test_what_a_packet_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "rude.pcapng"
    with create_pcap(path) as writer:
        writer.write(Frame(bytes.fromhex("00005e005302 00005e005301 88b5") + b"\x1b[2J\x9b31m\x07", 1))
    output = read("-x", "-v", path).stdout
    assert output.isprintable() or {c for c in output if not c.isprintable()} == {"\n"}


def test_bad_checksums_and_missing_octets_are_told(tmp_path: Path) -> None:
    with open_pcap(HTTP) as reader:
        frame = next(iter(reader))
    path = tmp_path / "odd.pcapng"
    broken = bytearray(frame.data)
    broken[-1] ^= 0xFF
    with create_pcap(path) as writer:
        writer.write(Frame(frame.data, 1))
        writer.write(Frame(bytes(broken), 1))
        writer.write(Frame(frame.data[:60], 1, wire_len=74))
    good, bad, cut = lines(path)
    assert "[" not in good.partition("options [")[2].partition("]")[2]
    assert re.search(r"\[bad TCP checksum 0x[0-9a-f]{4}, should be 0x[0-9a-f]{4}\]$", bad)
    assert cut.endswith("[14 of 74 octets not captured]")


def test_a_packet_in_hand_is_worth_two_in_the_pipe() -> None:
    """Lines come as packets do, not when a buffer is full."""
    argv = [sys.executable, "-m", "rawkit", "read", "-"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(HTTP.read_bytes()[:1000])
        process.stdin.flush()
        assert b"10.77.0.1" in process.stdout.readline()
        process.stdin.close()
        process.stdout.read()


def test_json_and_writing_exclude_each_other(tmp_path: Path) -> None:
    done = read(HTTP, "--json", "-w", tmp_path / "out.pcapng")
    assert done.returncode == 2
    assert done.stderr.startswith("rawkit read: --json prints packets and -w writes them: choose one")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_filter_is_an_error_before_anything_is_printed(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcapng"
    with create_pcap(empty):
        pass
    for path in (HTTP, empty):
        done = read(path, "port eighty eight")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
