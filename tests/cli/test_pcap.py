"""`rawkit pcap`: what files hold and which packets are taken out of them, beside Wireshark's tools."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from capfiles import Maker
from oracles import oracle, tcpdump

from rawkit.cli.main import main
from rawkit.pcap import open_pcap

PCAPS = Path(__file__).parents[2] / "pcaps"
FIXTURES = sorted(PCAPS.glob("*.pcapng"))
HTTP = PCAPS / "http.pcapng"


def run(*args: str | Path) -> int:
    return main(["pcap", *map(str, args)], standalone_mode=False)


def frames(path: Path) -> list[bytes]:
    with open_pcap(path) as reader:
        return [frame.data for frame in reader]


# ---- info


def capinfos(path: Path) -> dict[str, str]:
    command = [oracle("capinfos"), "-T", "-M", "-S", "-m", str(path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"}
    )
    names, values = (line.split(",") for line in done.stdout.splitlines()[:2])
    return dict(zip(names, values))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_info_says_what_capinfos_says(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "--json", "--sha256", path) == 0
    header, row = map(json.loads, capsys.readouterr().out.splitlines())
    assert header["schema"] == "rawkit.pcap.info/1"
    theirs = capinfos(path)
    assert row["packets"] == int(theirs["Number of packets"])
    assert row["size"] == int(theirs["File size (bytes)"])
    assert row["wire_octets"] == int(theirs["Data size (bytes)"])
    assert row["hashes"]["sha256"] == theirs["SHA256"]
    assert row["in_order"] == (theirs["Strict time order"] == "True")
    for ours, name in (("earliest_ns", "Start time"), ("latest_ns", "End time")):
        seconds, fraction = theirs[name].split(".")
        assert row[ours] == int(seconds) * 10**9 + int(fraction.ljust(9, "0"))


def test_info_tells_losses_damage_and_what_is_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make = Maker(">")
    octets = make.every_block()
    path = tmp_path / "every.pcapng.gz"
    path.write_bytes(gzip.compress(octets + b"damage, and more"))
    assert run("info", path) == 2
    out, error = capsys.readouterr()
    for text in ("big-endian, packed with gzip", "lost:         1 packet", "1 name resolution", "1 unknown"):
        assert text in out
    assert "eth0: ETHERNET (1); snaplen 96, times in 10^-9 s; 4 packets; 100 received, 1 dropped" in out
    assert "packets:      7" in out
    assert "of the unpacked octets, after 7 packets)" in error


def test_info_of_several_files_goes_on_behind_one_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = tmp_path / "none.pcap"
    none.write_text("no capture file")
    assert run("info", "--json", none, HTTP) == 2
    out, error = capsys.readouterr()
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["header", "file"]
    assert "not a capture file" in error


# ---- slice


@pytest.mark.parametrize(
    "expression", ["", "tcp port 80", "tcp[tcpflags] & tcp-syn != 0", "udp", "not greater 100"]
)
def test_a_slice_by_filter_is_what_tcpdump_writes(tmp_path: Path, expression: str) -> None:
    source, ours, theirs = tmp_path / "in.pcap", tmp_path / "out.pcap", tmp_path / "theirs.pcap"
    assert run("slice", HTTP, "-w", source) == 0  # pcapng to pcap
    assert run("slice", source, "-w", ours, *([expression] if expression else [])) == 0
    words = [*tcpdump(), "-r", str(source), "-w", str(theirs), *([expression] if expression else [])]
    subprocess.run(words, check=True, capture_output=True)
    assert frames(ours) == frames(theirs)
    assert frames(source) == frames(HTTP)


@pytest.mark.parametrize("numbers", ["1", "2-5", "3-", "1-2,7,9-10", "14", "5-100"])
def test_a_slice_by_numbers_is_what_editcap_writes(tmp_path: Path, numbers: str) -> None:
    ours, theirs = tmp_path / "out.pcapng", tmp_path / "theirs.pcapng"
    for options, extra in (((), ["-r"]), (("--invert",), [])):
        assert run("slice", HTTP, "-n", numbers, *options, "-w", ours) == 0
        words = [f"{part}0000" if part.endswith("-") else part for part in numbers.split(",")]
        subprocess.run([oracle("editcap"), *extra, HTTP, theirs, *words], check=True, capture_output=True)
        assert frames(ours) == frames(theirs)


def test_a_slice_by_time_is_what_editcap_writes(tmp_path: Path) -> None:
    make = Maker()
    source = tmp_path / "in.pcap"
    records = [make.record(b"%02d" % n, 1_700_000_000 + n // 4, n % 4 * 250_000) for n in range(40)]
    source.write_bytes(make.pcap_header() + b"".join(records))
    ours, theirs = tmp_path / "out.pcap", tmp_path / "theirs.pcap"
    command = [oracle("editcap"), "-F", "pcap", "-A", "1700000002.5", "-B", "1700000007", source, theirs]
    subprocess.run(command, check=True, capture_output=True)
    for start, end in (
        ("1700000002.5", "1700000007"),
        ("+2.5s", "+7s"),
        ("2023-11-14T22:13:22.5Z", "2023-11-14T23:13:27+01:00"),
    ):
        assert run("slice", source, "--from", start, "--until", end, "-w", ours) == 0
        assert frames(ours) == frames(theirs) == [b"%02d" % n for n in range(10, 28)]


def test_a_slice_keeps_what_stands_beside_its_packets(tmp_path: Path) -> None:
    make = Maker(">")
    source, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(make.every_block())
    assert run("slice", source, "-n", "2-", "-w", out) == 0
    with open_pcap(source) as before, open_pcap(out) as after:
        kept = [block for block in before.blocks() if block.kind != 6 or block.octets[20:24] != bytes(4)]
        assert list(after.blocks()) == kept


def test_a_count_ends_a_slice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.pcapng"
    assert run("slice", HTTP, "tcp", "-c", "3", "-w", out) == 0
    assert frames(out) == frames(HTTP)[:3]
    assert capsys.readouterr().err.startswith("3 packets of the ")


# ---- files


def test_what_is_read_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, link = tmp_path / "a.pcapng", tmp_path / "b.pcapng"
    path.write_bytes(HTTP.read_bytes())
    os.link(path, link)
    for target in (path, link):
        assert run("slice", path, "-c", "1", "-w", target) == 2
        assert "is the file being read" in capsys.readouterr().err
    assert path.read_bytes() == HTTP.read_bytes()
    assert sorted(tmp_path.iterdir()) == [path, link]


def test_a_file_appears_when_it_is_complete_and_stays_when_writing_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.pcapng"
    out.write_bytes(b"old")
    assert run("slice", HTTP, "no such filter", "-w", out) == 2
    assert out.read_bytes() == b"old"
    source = tmp_path / "wifi.pcap"
    make = Maker()
    source.write_bytes(make.pcap_header(linktype=105) + make.record(bytes(30)))
    assert run("slice", HTTP, "-w", tmp_path / "none" / "out.pcapng") == 2
    assert f"{tmp_path}/none/out.pcapng: No such file" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [out, source]


def test_what_came_before_damage_is_in_the_new_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(HTTP.read_bytes()[:-20])
    assert run("edit", source, "--ttl", "3", "-w", out) == 2
    assert "after 13 packets" in capsys.readouterr().err
    assert len(frames(out)) == 13


def test_a_pipe_is_read_and_written() -> None:
    command = [sys.executable, "-m", "rawkit", "pcap", "slice", "-", "-n", "2-3", "-w", "-"]
    done = subprocess.run(command, input=HTTP.read_bytes(), capture_output=True, timeout=60, check=True)
    assert done.stderr.startswith(b"2 packets of the ")
    tshark = [oracle("tshark"), "-n", "-r", "-", "-T", "fields", "-e", "frame.len"]
    lengths = subprocess.run(tshark, input=done.stdout, capture_output=True, timeout=60, check=True).stdout
    assert [int(length) for length in lengths.split()] == [len(data) for data in frames(HTTP)[1:3]]


@pytest.mark.parametrize("ending", ["gz", "zst", "lz4"])
def test_files_are_packed_as_their_name_says(tmp_path: Path, ending: str) -> None:
    pytest.importorskip({"gz": "gzip", "zst": "backports.zstd", "lz4": "lz4"}[ending])
    packed, out = tmp_path / f"a.pcapng.{ending}", tmp_path / "b.pcapng"
    assert run("slice", HTTP, "-w", packed) == 0
    assert not packed.read_bytes().startswith(b"\x0a\x0d\x0d\x0a")
    assert run("slice", packed, "-w", out) == 0
    assert frames(out) == frames(HTTP)


# ---- edit and anonymise


def test_edit_wants_something_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("edit", HTTP, "-w", "/dev/null") == 2
    assert "nothing is to be changed" in capsys.readouterr().err


def test_edit_refuses_what_a_link_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "tun.pcap", tmp_path / "out.pcap"
    make = Maker()
    source.write_bytes(make.pcap_header(linktype=101) + make.record(bytes.fromhex("45") + bytes(30)))
    assert run("edit", source, "--vlan-add", "7", "-w", out) == 2
    assert "link type 101 have no MAC addresses" in capsys.readouterr().err
    assert run("edit", source, "--ttl", "7", "-w", out) == 0


def test_the_same_key_makes_the_same_addresses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_text("of eight or more")
    names = [tmp_path / name for name in ("1.pcapng", "2.pcapng", "3.pcapng")]
    for name, options in zip(names, (("--key-file", key), ("--key-file", key), ())):
        assert run("anonymise", HTTP, *options, "-w", name) == 0
    one, two, three = (name.read_bytes() for name in names)
    assert one == two != three
    key.write_text("short")
    assert run("anonymise", HTTP, "--key-file", key, "-w", names[0]) == 2
    assert "can be guessed" in capsys.readouterr().err


# ---- repair


def test_repair_says_what_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    octets = HTTP.read_bytes()
    for damage, code, says in ((b"", 0, "the file is whole"), (b"\xff" * 40, 1, "40 octets lost")):
        source.write_bytes(octets + damage)
        assert run("repair", source, "-w", out) == code
        assert f"14 packets written to {out}; {says}" in capsys.readouterr().err
        assert out.read_bytes() == octets
    assert run("repair", "--json", source, "-w", out) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["type"] for row in rows] == ["header", "loss", "repaired"]
    assert (rows[1]["offset"], rows[1]["octets"], rows[2]["packets"]) == (len(octets), 40, 14)


# ---- split


def big(tmp_path: Path, packets: int = 5000) -> Path:
    """Flows of both families, TCP and UDP, 3 ms apart; a pcap that every program reads."""
    from rawkit.wire import TCP, UDP, Ether, IPv4, IPv6

    make = Maker()
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    kinds = [
        bytes(link / ip / upper / bytes(20 * n))
        for n, (ip, upper) in enumerate(
            (
                (IPv4(src="192.0.2.1", dst="192.0.2.2"), TCP(sport=1000, dport=80)),
                (IPv4(src="192.0.2.2", dst="192.0.2.1"), TCP(sport=80, dport=1000)),
                (IPv4(src="192.0.2.1", dst="198.51.100.7"), UDP(sport=53, dport=53)),
                (IPv6(src="2001:db8::1", dst="2001:db8::2"), UDP(sport=9, dport=7)),
                (IPv6(src="2001:db8::2", dst="2001:db8::1"), TCP(sport=9, dport=7)),
            )
        )
    ]
    records = [
        make.record(kinds[n * n % 7 % 5], 1_700_000_000 + n * 3 // 1000, n * 3 % 1000 * 1000)
        for n in range(packets)
    ]
    path = tmp_path / "big.pcap"
    path.write_bytes(make.pcap_header() + b"".join(records))
    return path


def parts(folder: Path, stem: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith((f"{stem}-", f"{stem}_")))


def test_files_of_so_many_packets_are_those_of_editcap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = big(tmp_path)
    command = [oracle("editcap"), "-F", "pcap", "-c", "700", source, tmp_path / "theirs.pcap"]
    subprocess.run(command, check=True, capture_output=True)
    assert run("split", source, "-c", "700", "-w", tmp_path / "ours.pcap") == 0
    ours, theirs = parts(tmp_path, "ours"), parts(tmp_path, "theirs")
    assert [path.name for path in ours] == [f"ours-{n:05d}.pcap" for n in range(1, 9)]
    assert [frames(path) for path in ours] == [frames(path) for path in theirs]
    assert capsys.readouterr().out.splitlines()[-1] == f"{ours[-1]}  100 packets"


def test_files_of_so_much_time_are_those_of_editcap(tmp_path: Path) -> None:
    source = big(tmp_path)
    command = [oracle("editcap"), "-F", "pcap", "-i", "7", source, tmp_path / "theirs.pcap"]
    subprocess.run(command, check=True, capture_output=True)
    assert run("split", source, "--every", "7s", "-w", tmp_path / "ours.pcap") == 0
    ours, theirs = parts(tmp_path, "ours"), parts(tmp_path, "theirs")
    assert [frames(path) for path in ours] == [frames(path) for path in theirs]
    assert len(ours) == 3


def test_files_of_so_many_octets(tmp_path: Path) -> None:
    source = big(tmp_path)
    assert run("split", source, "--size", "100k", "-w", tmp_path / "part.pcap") == 0
    made = parts(tmp_path, "part")
    sizes = [path.stat().st_size for path in made]
    assert all(100_000 - 300 <= size <= 100_000 for size in sizes[:-1])
    assert [data for path in made for data in frames(path)] == frames(source)


def test_a_file_for_each_flow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = big(tmp_path)
    assert run("split", source, "--flows", "--json", "-w", tmp_path / "flow.pcap.gz") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:]
    every = frames(source)
    assert [row["flow"] for row in rows] == [
        "tcp 192.0.2.1:1000 192.0.2.2:80",
        "tcp [2001:db8::2]:9 [2001:db8::1]:7",
        "udp 192.0.2.1:53 198.51.100.7:53",
    ]
    filters = ["tcp port 80", "ip6 and tcp", "udp port 53"]
    for row, expression in zip(rows, filters):
        wanted = tmp_path / "wanted.pcap"
        assert run("slice", source, expression, "-w", wanted) == 0
        assert frames(Path(row["path"])) == frames(wanted)
        assert row["packets"] == len(frames(wanted))
    assert sum(row["packets"] for row in rows) == len(every)
    assert run("split", source, "--flows", "--most", "1", "-w", tmp_path / "few.pcap") == 0
    assert [path.name for path in parts(tmp_path, "few")] == ["few-00001.pcap", "few-other.pcap"]


def test_each_part_of_a_pcapng_file_describes_its_interfaces(tmp_path: Path) -> None:
    make = Maker(">")
    source = tmp_path / "in.pcapng"
    source.write_bytes(make.every_block() + Maker("<").every_block())
    assert run("split", source, "-c", "3", "-w", tmp_path / "part.pcapng") == 0
    made = parts(tmp_path, "part")
    assert [len(frames(path)) for path in made] == [3, 3, 3, 3, 2]
    assert [data for path in made for data in frames(path)] == frames(source)
    with open_pcap(made[-1]) as reader:
        kinds = [block.kind for block in reader.blocks()]
        assert [row.name for row in reader.interfaces] == ["eth0", "tun0"]
    assert kinds == [0x0A0D0D0A, 1, 4, 1, 10, 6, 5, 6]
    assert run("split", source, "--flows", "-w", tmp_path / "flow.pcapng") == 0
    (other,) = parts(tmp_path, "flow")
    assert frames(other) == frames(source)


def test_split_wants_to_know_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ((), ("--flows", "-c", "3"), ("--every", "0s"), ("--size", "0"), ("--every", "soon")):
        assert run("split", HTTP, *options, "-w", tmp_path / "x.pcapng") == 2
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()


# ---- stats


def test_stats_count_what_tshark_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = big(tmp_path, 1000)
    assert run("stats", "--json", "--every", "1s", source) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    protocols = {tuple(row["headers"]): row for row in rows if row["type"] == "protocol"}
    command = [
        oracle("tshark"),
        "-n",
        "-q",
        "-r",
        source,
        "-z",
        "io,phs",
        "-z",
        "conv,tcp",
        "-z",
        "io,stat,1",
    ]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, headers in (
        ("eth", ("Ether",)),
        ("ip", ("Ether", "IPv4")),
        ("ipv6", ("Ether", "IPv6")),
    ):
        line = next(line for line in theirs.splitlines() if line.split()[:1] == [name])
        count = protocols[headers]
        assert line.split()[1:] == [f"frames:{count['packets']}", f"bytes:{count['octets']}"]
    talks = [row for row in rows if row["type"] == "conversation" and row["text"].startswith("tcp")]
    line = next(line for line in theirs.splitlines() if "192.0.2.1:1000" in line)
    numbers = [int(n) for n in re.findall(r" (\d+) +\d+ k?(?:B|bytes)", line)]
    talk = next(row for row in talks if "192.0.2.1" in row["text"])
    assert sorted(numbers[:2]) == sorted([talk["packets_from_a"], talk["packets_from_b"]])
    intervals = [row["packets"] for row in rows if row["type"] == "interval"]
    table = [line.split("|") for line in theirs.splitlines() if "<>" in line]
    assert intervals == [int(cells[2]) for cells in table if int(cells[2])]


def test_stats_of_every_fixture_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    for path in FIXTURES:
        assert run("stats", "--json", "--top", "1000", path) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        total = next(row for row in rows if row["type"] == "total")
        first = [row["packets"] for row in rows if row["type"] == "protocol" and len(row["headers"]) == 1]
        assert sum(first) + total["unknown"] == total["packets"] == len(frames(path))
        ends = [row for row in rows if row["type"] == "endpoint"]
        talks = [row for row in rows if row["type"] == "conversation"]
        assert sum(row["octets_out"] for row in ends) == sum(row["octets_in"] for row in ends)
        both = sum(row["octets_from_a"] + row["octets_from_b"] for row in talks)
        assert both == sum(row["octets_out"] for row in ends)
        assert run("stats", path) == 0
        assert f"{total['packets']} packets" in capsys.readouterr().out


# ---- merge


def test_merge_joins_what_split_took_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = big(tmp_path), tmp_path / "out.pcap"
    assert run("split", source, "--flows", "-w", tmp_path / "flow.pcap") == 0
    made = parts(tmp_path, "flow")
    assert run("merge", *made, "-w", out) == 0
    assert frames(out) == frames(source)
    assert capsys.readouterr().err == f"5000 packets of 3 files written to {out}\n"


# ---- diff


def test_diff_says_nothing_of_the_same_packets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.pcap"
    assert run("convert", HTTP, "-w", other) == 0
    capsys.readouterr()
    assert run("diff", HTTP, other) == 0
    assert run("diff", "--times", "0", HTTP, other) == 0
    assert capsys.readouterr() == ("", "")


def test_diff_names_fields_and_packets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed, fewer = tmp_path / "changed.pcapng", tmp_path / "fewer.pcapng"
    assert run("edit", HTTP, "--ttl", "7", "-w", changed) == 0
    assert run("slice", HTTP, "-n", "3-5,9", "--invert", "-w", fewer) == 0
    capsys.readouterr()
    assert run("diff", "--json", HTTP, changed) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()][1:]
    assert [(row["left_number"], row["right_number"]) for row in rows] == [(n, n) for n in range(1, 15)]
    assert [field["field"] for field in rows[0]["fields"]] == ["IPv4.ttl", "IPv4.checksum"]
    assert (rows[0]["fields"][0]["left"], rows[0]["fields"][0]["right"]) == (64, 7)
    assert run("diff", "--ignore", "ipv4.TTL,IPv4.checksum", HTTP, changed) == 0
    capsys.readouterr()
    assert run("diff", HTTP, fewer) == 1
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["<", "3"], ["<", "4"], ["<", "5"], ["<", "9"]
    ]  # fmt: skip
    assert run("diff", fewer, HTTP) == 1
    assert [line[0] for line in capsys.readouterr().out.splitlines()] == [">"] * 4
    assert run("diff", "-q", fewer, HTTP) == 1
    assert capsys.readouterr().out == ""


def test_diff_compares_times_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make = Maker()
    one, two = tmp_path / "1.pcap", tmp_path / "2.pcap"
    one.write_bytes(make.pcap_header() + make.record(bytes(60), 1, 5) + make.record(bytes(61), 1, 9))
    two.write_bytes(make.pcap_header() + make.record(bytes(60), 1, 6) + make.record(bytes(61), 1, 9))
    assert run("diff", one, two) == 0
    assert run("diff", "--times", "1us", one, two) == 0
    assert run("diff", "--times", "500ns", one, two) == 1
    assert "frame.time at offset 0: 1000005000 -> 1000006000" in capsys.readouterr().out
    assert run("diff", "--ignore", "nonsense", one, two) == 2
    assert "say header.field" in capsys.readouterr().err


# ---- convert


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_convert_there_and_back_keeps_packets_and_times(path: Path, tmp_path: Path) -> None:
    with open_pcap(path) as reader:
        wanted = [(frame.data, frame.time_ns, frame.wire_len) for frame in reader]
        linktypes = {row.linktype for row in reader.interfaces}
    there, back = tmp_path / "a.pcap", tmp_path / "b.pcapng"
    if len(linktypes) > 1:
        assert run("convert", path, "-w", there) == 2
        return
    assert run("convert", path, "-w", there) == 0
    assert run("convert", there, "-w", back) == 0
    for file in (there, back):
        with open_pcap(file) as reader:
            assert [(frame.data, frame.time_ns, frame.wire_len) for frame in reader] == wanted


def test_a_pcap_in_microseconds_is_that_of_editcap(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.pcap", tmp_path / "theirs.pcap"
    assert run("convert", HTTP, "--microseconds", "-w", ours) == 0
    subprocess.run([oracle("editcap"), "-F", "pcap", HTTP, theirs], check=True, capture_output=True)
    assert ours.read_bytes()[24:] == theirs.read_bytes()[24:]


def test_a_dump_of_tcpdump_and_xxd_becomes_packets(tmp_path: Path) -> None:
    text, out = tmp_path / "dump.txt", tmp_path / "out.pcap"
    dump = subprocess.run([*tcpdump(), "-n", "-xx", "-r", HTTP], capture_output=True, check=True).stdout
    text.write_bytes(dump)
    assert run("convert", "--text", text, "--time", "1700000000", "-w", out) == 0
    assert frames(out) == frames(HTTP)
    with open_pcap(out) as reader:
        assert [frame.time_ns for frame in reader][:2] == [17 * 10**17, 17 * 10**17 + 1000]
    text.write_text("\n".join(data.hex(" ") for data in frames(HTTP)) + "\n")
    assert run("convert", "--text", text, "-w", out) == 0
    assert frames(out) == frames(HTTP)


def test_a_text_is_read_as_text2pcap_reads_it(tmp_path: Path) -> None:
    lines = []
    for data in frames(HTTP):
        lines += [f"{at:06x} {data[at : at + 16].hex(' ')}" for at in range(0, len(data), 16)] + [""]
    text, ours, theirs = (tmp_path / name for name in ("dump.txt", "ours.pcap", "theirs.pcap"))
    text.write_text("# a comment\n" + "\n".join(lines))
    subprocess.run([oracle("text2pcap"), text, theirs], check=True, capture_output=True)
    assert run("convert", "--text", text, "-w", ours) == 0
    assert frames(ours) == frames(theirs) == frames(HTTP)


def test_text_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "dump.txt"
    text.write_text("0000 01 02 03\n0010 04\n")
    assert run("convert", "--text", text, "-w", tmp_path / "x.pcap") == 2
    assert "packet at line 1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [text]


# ---- export


def test_csv_has_the_fields_that_tshark_finds(capsys: pytest.CaptureFixture[str]) -> None:
    names = "frame.number,frame.len,ip.src,ip.dst,tcp.sport,tcp.dport,tcp.seq"
    assert run("export", HTTP, "-e", names) == 0
    ours = capsys.readouterr().out.splitlines()
    fields = ["frame.number", "frame.len", "ip.src", "ip.dst", "tcp.srcport", "tcp.dstport", "tcp.seq_raw"]
    command = [oracle("tshark"), "-n", "-r", HTTP, "-T", "fields", "-E", "separator=,"]
    command += [word for field in fields for word in ("-e", field)]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert ours == [names, *theirs]


def test_json_has_null_for_what_a_packet_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", "--json", PCAPS / "dns.pcapng", "-e", "ip.src,ipv6.src", "-e", "udp.dport") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"type": "header", "schema": "rawkit.pcap.export/1"}
    assert {(row["ip.src"] is None, row["ipv6.src"] is None) for row in rows[1:]} == {
        (True, False),
        (False, True),
    }
    assert all(isinstance(row["udp.dport"], int) for row in rows[1:])


def test_export_of_what_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for names, says in (
        ("ip.nothing", "nothing"),
        ("frame.colour", "frame.number"),
        ("tcp.options", "options"),
    ):
        assert run("export", HTTP, "-e", names) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert says in error


def test_export_without_fields_has_some_of_every_fixture(capsys: pytest.CaptureFixture[str]) -> None:
    for path in FIXTURES:
        assert run("export", path) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + len(frames(path))
