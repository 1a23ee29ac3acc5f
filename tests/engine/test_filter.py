"""Filters against tcpdump: the same programs, the same verdicts."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from oracles import tcpdump

from rawkit.engine import FrameBatch, compile_filter
from rawkit.engine import filter as filter_module
from rawkit.engine.batch import VLAN
from rawkit.engine.native import ffi
from rawkit.errors import FilterError

MACS = bytes.fromhex("00005e005302 00005e005301")


def ipv4(protocol: int, payload: bytes, src: str = "c0000201", dst: str = "c0000202", more: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, more, 64, protocol, 0)
    return head + bytes.fromhex(src + dst) + payload


def ipv6(protocol: int, payload: bytes) -> bytes:
    addresses = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002")
    return struct.pack(">IHBB", 0x60000000, len(payload), protocol, 64) + addresses + payload


def ports(src: int, dst: int, length: int = 20) -> bytes:
    return struct.pack(">HH", src, dst) + bytes(8) + b"\x50\x02" + bytes(max(0, length - 14))


def tagged(ethertype: int, payload: bytes, *vlans: int, tpid: int = 0x8100) -> bytes:
    tags = b"".join(struct.pack(">HH", tpid, vlan) for vlan in vlans)
    return MACS + tags + struct.pack(">H", ethertype) + payload


FRAMES = [
    tagged(0x0800, ipv4(6, ports(1025, 80))),
    tagged(0x0800, ipv4(6, ports(80, 1025))),
    tagged(0x0800, ipv4(6, ports(1025, 80), more=0x2000)),
    tagged(0x0800, ipv4(6, ports(1025, 80), more=5)),
    tagged(0x0800, ipv4(17, ports(53, 4000), src="cb007105")),
    tagged(0x0800, ipv4(1, bytes(300))),
    tagged(0x86DD, ipv6(6, ports(1025, 80))),
    tagged(0x86DD, ipv6(58, bytes([135, 0]) + bytes(22))),
    tagged(0x0806, bytes.fromhex("0001080006040001") + bytes(20)),
    tagged(0x0800, ipv4(6, ports(1025, 80)), 7),
    tagged(0x0800, ipv4(17, ports(53, 53)), 4095),
    tagged(0x86DD, ipv6(17, ports(53, 4000)), 7, 8),
    tagged(0x0806, bytes(28), 8, tpid=0x88A8),
    tagged(0x88B5, b"local experiment"),
    b"\xff" * 6 + MACS[6:] + b"\x08\x00" + ipv4(17, ports(68, 67)),
    MACS + b"\x00",
    b"",
]
EXPRESSIONS = [
    "",
    "ip",
    "not ip",
    "tcp port 80",
    "tcp[13] & 2 != 0 and dst port 80",
    "udp or icmp6",
    "host 192.0.2.1 and not tcp",
    "net 203.0.113.0/24",
    "vlan",
    "vlan 7",
    "vlan and tcp",
    "vlan 7 and vlan 8 and udp",
    "not vlan",
    "arp or (vlan and arp)",
    "ether broadcast",
    "ether proto 0x88b5",
    "greater 200",
    "less 64",
    "portrange 50-60",
    "ip6 proto 6 or ip[8] = 64",
    "icmp[icmptype] = icmp-echoreply",
    "len > 5",
]


def capture_file(path: Path, frames: list[bytes], linktype: int) -> Path:
    records = b"".join(struct.pack("<IIII", 1, i, len(f), len(f)) + f for i, f in enumerate(frames))
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, linktype) + records)
    return path


def run_tcpdump(*arguments: str) -> str:
    done = subprocess.run([*tcpdump(), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_programs_are_those_of_tcpdump(expression: str, tmp_path: Path) -> None:
    version = run_tcpdump("--version")
    ours = filter_module.libpcap_version()
    if ours.split()[2] not in version:
        pytest.skip(f"tcpdump was built with another libpcap than {ours!r}")
    empty = capture_file(tmp_path / "empty.pcap", [], 1)
    n, *lines = run_tcpdump("-r", str(empty), "-ddd", expression).splitlines()
    program = [tuple(map(int, line.split())) for line in lines]
    assert len(program) == int(n)
    assert compile_filter(expression).instructions == program


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_verdicts_are_those_of_tcpdump(expression: str, tmp_path: Path) -> None:
    frames = [f + random.Random(i).randbytes(i % 7) for i, f in enumerate(FRAMES * 3)]
    source = capture_file(tmp_path / "in.pcap", frames, 1)
    run_tcpdump("-r", str(source), "-w", str(tmp_path / "out.pcap"), expression)
    left = (tmp_path / "out.pcap").read_bytes()
    wanted = []
    at = 24
    while at < len(left):
        seconds, number, cap_len, _ = struct.unpack_from("<IIII", left, at)
        assert seconds == 1
        wanted.append(number)
        at += 16 + cap_len
    compiled = compile_filter(expression)
    batch = FrameBatch(len(frames))
    batch.extend(frames)
    assert [i for i, passed in enumerate(compiled.match_batch(batch)) if passed] == wanted
    assert [i for i, frame in enumerate(frames) if compiled.matches(frame)] == wanted


def test_link_types_have_their_own_offsets() -> None:
    packet = ipv4(6, ports(1025, 80))
    assert compile_filter("tcp port 80", linktype=101).matches(packet)
    assert compile_filter("tcp port 80", linktype=228).matches(packet)
    assert not compile_filter("tcp port 80", linktype=1).matches(packet)
    sll2 = struct.pack(">HHIHBB8x", 0x0800, 0, 1, 772, 0, 6)
    assert compile_filter("tcp port 80", linktype=276).matches(sll2 + packet)


def test_a_program_that_loops_runs_in_user_space() -> None:
    chain = ipv6(0, bytes([6, 0, 1, 4, 0, 0, 0, 0]) + ports(1025, 80))
    compiled = compile_filter("ip6 protochain 6")
    assert compiled.matches(tagged(0x86DD, chain))
    assert not compiled.matches(tagged(0x86DD, chain[:41]))
    for sees in ("frames", "packets"):
        place = compiled.place(sees)
        assert (place.insns_n, place.user_flags) == (0, 0)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_explain_prints_the_program_of_tcpdump(expression: str, tmp_path: Path) -> None:
    empty = capture_file(tmp_path / "empty.pcap", [], 1)
    listing = run_tcpdump("-r", str(empty), "-d", expression)
    head, kernel, user, files, *program = compile_filter(expression).explain().splitlines()
    assert head == f"filter {expression!r}, link type 1, {len(program)} instructions"
    assert (kernel, files) == ("in the kernel: frames without a VLAN tag", "on files: the same program")
    assert user.startswith("in user space: frames whose VLAN tag")
    assert program == listing.splitlines()


@pytest.mark.parametrize(
    ("expression", "linktype", "where"),
    [
        ("tcp port 80", 101, "in the kernel: all packets"),
        ("tcp port 80", 276, "in user space: all of it"),
        ("ip6 protochain 6", 1, "in user space: all of it"),
    ],
)
def test_explain_says_where_it_runs(expression: str, linktype: int, where: str) -> None:
    _, place, files, first, *_ = compile_filter(expression, linktype).explain().splitlines()
    assert place.startswith(where)
    assert files == "on files: the same program"
    assert first.startswith("(000) ")


def test_a_program_that_would_be_too_long_with_its_prefix_runs_in_user_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled = compile_filter("tcp port 80")
    monkeypatch.setattr(filter_module, "MAX_INSTRUCTIONS", len(compiled.instructions) + 2)
    assert compiled.place("frames") == (ffi.NULL, 0, 0)
    assert compiled.place("packets").insns_n == len(compiled.instructions)


def test_sifting_judges_the_frames_with_a_flag_and_cuts_them() -> None:
    batch = FrameBatch(len(FRAMES))
    batch.extend(FRAMES)
    compiled = compile_filter("ip", snaplen=60)
    assert compiled.sift(batch, VLAN) == len(FRAMES)  # none of them has it
    wanted = [frame for frame in FRAMES if compiled.matches(frame)]
    assert compiled.sift(batch) == len(wanted)
    assert list(batch) == [frame[:60] for frame in wanted]
    assert [record.wire_len for record in batch.records()] == list(map(len, wanted))


def test_length_on_the_wire_counts_for_frames_that_were_cut() -> None:
    long = compile_filter("greater 1000")
    assert not long.matches(FRAMES[0])
    assert long.matches(FRAMES[0], wire_len=1400)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [("tcp prt 80", "syntax error"), ("host 300.1.2.3", "300"), ("vlan 5000", "5000"), ("tcp\0", "NUL")],
)
def test_errors_say_what_libpcap_says(expression: str, reason: str) -> None:
    with pytest.raises(FilterError, match=reason):
        compile_filter(expression)


def test_a_link_type_that_libpcap_cannot_filter_is_an_error() -> None:
    with pytest.raises(FilterError, match="link"):
        compile_filter("tcp", linktype=60000)
    with pytest.raises(FilterError, match=r"(?i)vlan"):
        compile_filter("vlan", linktype=101)


def test_a_program_too_long_for_the_kernel_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_module, "MAX_INSTRUCTIONS", 10)
    with pytest.raises(FilterError, match="longer than 10 instructions"):
        compile_filter("tcp port 80")


def test_an_expression_that_would_compile_for_hours_is_an_error() -> None:
    with pytest.raises(FilterError, match="16384"):
        compile_filter(" or ".join(f"host 10.{i >> 8}.{i & 255}.1" for i in range(3000)))


def test_deep_nesting_ends_in_an_answer() -> None:
    with pytest.raises(FilterError):
        compile_filter("(" * 8000 + "ip")


def test_many_threads_may_compile_and_run() -> None:
    verdicts: list[list[bool]] = []

    def work(expression: str) -> None:
        for _ in range(20):
            compiled = compile_filter(expression)
            verdicts.append([compiled.matches(frame) for frame in FRAMES] == expected[expression])  # type: ignore[arg-type]

    expected = {e: [compile_filter(e).matches(f) for f in FRAMES] for e in EXPRESSIONS[:8]}
    threads = [threading.Thread(target=work, args=(e,)) for e in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(verdicts) == 160
    assert all(verdicts)


def test_the_library_that_came_with_pip_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = [path for path in filter_module._candidates() if "/" in path]
    if not packaged:
        pytest.skip("the PyPI package libpcap is not installed")
    monkeypatch.setattr(filter_module, "_candidates", lambda: iter(packaged))
    filter_module._libpcap.cache_clear()
    try:
        assert compile_filter("tcp port 80").matches(FRAMES[0])
        assert "libpcap" not in sys.modules
        monkeypatch.setattr(filter_module, "_candidates", lambda: iter(["/nonexistent/libpcap.so"]))
        filter_module._libpcap.cache_clear()
        with pytest.raises(FilterError, match="pip install libpcap"):
            compile_filter("tcp port 80")
    finally:
        filter_module._libpcap.cache_clear()
