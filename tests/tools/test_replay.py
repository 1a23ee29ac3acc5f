"""Replay: what goes out, when (by the receiving kernel's clock), and a report that adds up."""

from __future__ import annotations

import asyncio
import io
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from oracles import calm, oracle
from pyroute2 import IPRoute

from rawkit.addr import MAC
from rawkit.errors import CaptureFileError, EngineError, PermissionDenied, RawkitError, UnknownInterface
from rawkit.pcap import create_pcap, open_pcap
from rawkit.tools.capture import Capture
from rawkit.tools.replay import Replay, ReplayReport, areplay, dry_run_to, replay
from rawkit.tools.replayplan import Plan, ReplayConfig
from rawkit.tools.replaysource import BATCH
from rawkit.tools.rewrite import Rewrite, parse_prefix_map
from rawkit.wire import TCP, UDP, Dot1Q, Ether, IPv4, IPv6, Packet
from rawkit.wire.fragment import Reassembler
from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from conftest import VethPair

MARK = bytes.fromhex("88b5")  # EtherType for local experiments (IEEE Std 802)
HEADER = bytes.fromhex("00005e005302 00005e005301") + MARK
PCAPS = Path(__file__).parents[2] / "pcaps"
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000


def numbered(n: int, gap_ns: int = MS, length: int = 60) -> list[Frame]:
    """n Ethernet frames, gap_ns apart, that carry their number."""
    return [
        Frame((HEADER + i.to_bytes(4, "big")).ljust(length, b"\0"), START_NS + i * gap_ns) for i in range(n)
    ]


def plan(frames: Iterable[Frame], **options: object) -> list[tuple[int, bytes]]:
    chunks = Plan(frames, ReplayConfig("veth0", **options)).chunks()  # type: ignore[arg-type]
    return [(due[row], batch[row]) for batch, first, n, due in chunks for row in range(first, first + n)]


def offsets(frames: Iterable[Frame], **options: object) -> list[int]:
    return [offset_ns for offset_ns, _ in plan(frames, **options)]


# ---- what goes out when, without any network ------------------------------------------------------


def test_the_pace_of_the_file_and_multiples_of_it() -> None:
    frames = numbered(4, gap_ns=10)
    assert offsets(frames) == [0, 10, 20, 30]
    assert offsets(frames, speed=2) == [0, 5, 10, 15]
    assert offsets(frames, speed=0.5) == [0, 20, 40, 60]


def test_a_steady_rate_counts_from_the_first_frame_and_never_drifts() -> None:
    assert offsets(numbered(4), pps=3)[:4] == [0, 333_333_333, 666_666_666, 1_000_000_000]
    assert offsets(numbered(3001), pps=3)[-1] == 1000 * 10**9


def test_topspeed_has_no_times() -> None:
    assert offsets(numbered(3), topspeed=True) == [0, 0, 0]


def test_a_frame_stamped_before_its_predecessor_goes_right_behind_it() -> None:
    frames = numbered(4, gap_ns=10)
    frames[2].time_ns = START_NS - 1000
    assert offsets(frames) == [0, 10, 10, 30]


def test_each_pass_may_have_other_addresses(tmp_path: Path) -> None:
    """A file is read anew for each pass, a stream is kept."""
    packet = ETHER / IPv4(src="10.1.0.5", dst="192.0.2.2") / UDP(sport=1, dport=2)
    path = tmp_path / "in.pcap"
    with create_pcap(path) as writer:
        writer.write(Frame(bytes(packet), START_NS))
        writer.write(Frame(bytes(packet), START_NS + 10))
    counting = replace(parse_prefix_map("10.1.0.0/16=10.254.0.0/16"), counts=True)
    options = {"loop": 4, "rewrite": Rewrite(prefixes=(counting,))}
    for stream in (False, True):
        with open_pcap(io.BytesIO(path.read_bytes()) if stream else path) as reader:
            octets, report = dry(tmp_path / "out.pcap", reader, **options)
        packets = [Packet.parse(frame) for frame in octets]
        sources = [str(packet[IPv4].src) for packet in packets]
        assert sources[::2] == sources[1::2] == ["10.254.0.5", "10.255.0.5", "11.0.0.5", "11.1.0.5"]
        assert all(verdict.state == "good" for packet in packets for verdict in packet.checksums())
        assert (report.changed, report.read) == (8, 8)
        with open_pcap(tmp_path / "out.pcap") as out:
            assert [frame.time_ns for frame in out] == [0, 10, 20, 30, 40, 50, 60, 70]


def test_the_first_seconds_may_be_passed_over() -> None:
    frames = numbered(300, gap_ns=10)
    assert offsets(frames, start=2.95e-6) == [0, 10, 20, 30, 40]
    assert offsets(frames, start=2.95e-6, skip=1) == [0, 10, 20, 30]
    assert offsets(frames, start=2.98e-6, loop=2) == [0, 10, 20, 30]
    frames[297].time_ns = START_NS  # not passed over again
    assert offsets(frames, start=2.95e-6) == [0, 10, 10, 30, 40]
    assert offsets(frames, start=1, loop=3) == []


def test_further_passes_follow_by_the_mean_gap() -> None:
    assert offsets(numbered(3, gap_ns=10), loop=3) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert offsets(numbered(1), loop=3) == [0, 0, 0]
    assert offsets([], loop=3) == []
    backwards = numbered(3, gap_ns=10)
    backwards[2].time_ns = START_NS - 1000
    assert offsets(backwards, loop=2) == sorted(offsets(backwards, loop=2))


def test_passes_may_be_further_apart() -> None:
    frames = numbered(2, gap_ns=10)
    assert offsets(frames, loop=3, loop_delay=1e-6, speed=2) == [0, 5, 1010, 1015, 2020, 2025]
    assert offsets(frames, loop=2, loop_delay=1e-6, pps=1e9) == [0, 1, 1002, 1003]
    with pytest.raises(ValueError, match="loop_delay needs a pace"):
        ReplayConfig("veth0", topspeed=True, loop_delay=1)


def test_limit_counts_what_is_read_over_all_passes() -> None:
    rows = plan(numbered(3), loop=2, limit=4)
    assert [int.from_bytes(octets[14:18], "big") for _, octets in rows] == [0, 1, 2, 0]


def dry(path: Path, frames: Iterable[Frame], **options: object) -> tuple[list[bytes], ReplayReport]:
    """The octets that would go out, and the report."""
    report = dry_run_to(str(path), frames, ReplayConfig("veth77", **options))  # type: ignore[arg-type]
    with open_pcap(path) as reader:
        return [frame.data for frame in reader], report


def test_mac_addresses_are_replaced_and_nothing_else(tmp_path: Path) -> None:
    frames = numbered(1)
    dst, src = MAC("00:00:5e:00:53:aa"), MAC("00:00:5e:00:53:bb")
    for rewrite, begin in (
        (Rewrite(dst_mac=dst), bytes(dst) + HEADER[6:12]),
        (Rewrite(src_mac=src), HEADER[:6] + bytes(src)),
        (Rewrite(dst_mac=dst, src_mac=src), bytes(dst) + bytes(src)),
    ):
        octets, report = dry(tmp_path / "out.pcap", frames, rewrite=rewrite)
        assert octets == [begin + frames[0].data[12:]]
        assert (report.changed, report.finished) == (1, 0)


def test_a_rate_in_bits_counts_the_octets_before(tmp_path: Path) -> None:
    frames = [*numbered(2, length=100), *numbered(2, length=1000)]
    assert offsets(frames, mbps=8) == [0, 100_000, 200_000, 1_200_000]


def test_the_beginning_is_passed_over_and_the_end_comes_in_time() -> None:
    assert offsets(numbered(5, gap_ns=10), skip=3) == [0, 10]
    assert offsets(numbered(4, gap_ns=10), skip=2, loop=2) == [0, 10, 20, 30]
    assert offsets(numbered(5), duration=0.002) == [0, MS]


ETHER = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")


def test_tcp_that_was_merged_goes_in_segments(tmp_path: Path) -> None:
    data = bytes(i % 251 for i in range(5000))
    for link in (ETHER, ETHER / Dot1Q(vid=5)):
        merged = (
            link
            / IPv4(src="192.0.2.1", dst="192.0.2.2", id=9)
            / TCP(sport=1, dport=2, seq=7, flags=TCP.ACK)
            / data
        )
        for gso_len, most in ((0, 1460), (1000, 1000), (9000, 1460)):
            frames = [Frame(bytes(merged), START_NS, gso_len=gso_len), *numbered(1)]
            octets, report = dry(tmp_path / "out.pcap", frames)
            segments = [Packet.parse(part) for part in octets[:-1]]
            assert b"".join(part.payload for part in segments) == data
            assert len(segments[0].payload) == most
            assert all(verdict.state == "good" for part in segments for verdict in part.checksums())
            assert [part[TCP].seq - 7 for part in segments] == list(range(0, 5000, most))
            assert (report.read, report.cut, report.pieces) == (2, 1, len(segments))
    octets, report = dry(tmp_path / "out.pcap", frames, as_is=True)
    assert octets == [frame.data for frame in frames]
    assert report.cut == 0


@pytest.mark.parametrize(
    "ip", [IPv4(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")]
)
def test_other_ip_goes_in_fragments_that_become_one_again(ip: IPv4 | IPv6, tmp_path: Path) -> None:
    whole = bytes(ETHER / ip / UDP(sport=1, dport=2) / bytes(4000))
    octets, report = dry(tmp_path / "out.pcap", [Frame(whole, START_NS)], mtu=1400)
    assert (report.cut, report.pieces) == (1, 3)
    assert max(map(len, octets)) <= 1414
    reassembler = Reassembler()
    (done,) = filter(None, [reassembler.feed(Packet.parse(part), 0) for part in octets])
    assert bytes(done.payload) == bytes(4000)
    assert done[UDP] == Packet.parse(whole)[UDP]


@pytest.mark.parametrize("as_is", [False, True])
def test_whole_batches_of_a_file_are_the_frames_one_by_one(tmp_path: Path, as_is: bool) -> None:
    """At topspeed nobody looks at single frames, but for those that cannot go as they are."""
    path = tmp_path / "in.pcapng"
    odd = [
        Frame(HEADER, START_NS, wire_len=100), Frame(b"\x45" + bytes(30), START_NS, linktype=101),
        Frame(HEADER[:13], START_NS), *numbered(1, length=1600),
    ]  # fmt: skip
    with create_pcap(path) as writer, open_pcap(PCAPS / "offload.pcapng") as reader:
        for frame in (*numbered(1100), *odd, *numbered(3), *reader):
            writer.write(frame)
    with open_pcap(path) as reader:
        one_by_one = dry(tmp_path / "out.pcap", list(reader), topspeed=True, as_is=as_is)
    with open_pcap(path) as reader:
        assert dry(tmp_path / "out.pcap", reader, topspeed=True, as_is=as_is) == one_by_one
    assert one_by_one[1].cut == (0 if as_is else 6)


def test_what_cannot_be_cut_stays_whole(tmp_path: Path) -> None:
    fixed = ETHER / IPv4(src="192.0.2.1", dst="192.0.2.2", flags=IPv4.DF) / UDP() / bytes(3000)
    frames = [Frame(bytes(fixed), START_NS), *numbered(1, length=3000)]
    octets, report = dry(tmp_path / "out.pcap", frames)
    assert octets == [frame.data for frame in frames]
    assert (report.cut, report.pieces, report.planned) == (0, 0, 2)


def test_frames_that_cannot_go_out_as_they_were_are_skipped_with_the_reason() -> None:
    good = numbered(2)
    cut = Frame(HEADER, START_NS, wire_len=100)
    tunnel = Frame(b"\x45" + bytes(30), START_NS, linktype=101)
    stub = Frame(HEADER[:13], START_NS)
    wanted = Plan([tunnel, good[0], cut, stub, cut, good[1]], ReplayConfig("veth0"))
    moments = [due[row] for _, first, n, due in wanted.chunks() for row in range(first, first + n)]
    assert moments == [0, MS]
    assert wanted.planned == 2
    assert wanted.skipped == {
        "link type 101 is not Ethernet": 1,
        "cut short by the capture": 2,
        "shorter than an Ethernet header": 1,
    }


@pytest.mark.parametrize("options", [{"speed": 0.0}, {"speed": -1.0}, {"pps": 0.0}, {"loop": 0}])
def test_paces_that_make_no_sense(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"replay: {name} must be above 0"):
        ReplayConfig("veth0", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="exclude each other"):
        ReplayConfig("veth0", pps=1, topspeed=True)


# ---- on a link ------------------------------------------------------------------------------------


class Receiver:
    """What the far end of the pair saw of the experiments' EtherType."""

    def __init__(self, veth: VethPair) -> None:
        with veth.namespace.enter():
            self.capture = Capture(veth.far, "ether proto 0x88b5")

    def frames(self) -> list[Frame]:
        self.capture.stop()
        with self.capture:
            frames = list(self.capture)
        assert self.capture.counters().dropped == 0
        return frames


@pytest.fixture
def receiver(veth: VethPair) -> Iterator[Receiver]:
    receiver = Receiver(veth)
    yield receiver
    receiver.capture.close()


def run(frames: Iterable[Frame], interface: str, **options: object) -> ReplayReport:
    replaying = Replay(frames, ReplayConfig(interface, **options))  # type: ignore[arg-type]
    for _ in replaying:
        pass
    return replaying.report


def whole(report: ReplayReport, read: int) -> bool:
    """Whether the report accounts for every frame read."""
    handled = report.sent + sum(report.failed.values()) + sum(report.skipped.values()) + report.unsent
    return report.read == read == handled


@pytest.mark.net
def test_every_frame_arrives_as_it_was_and_in_order(veth: VethPair, receiver: Receiver) -> None:
    frames = numbered(3 * BATCH + 7, gap_ns=20_000)
    report = run(frames, veth.near)
    assert [frame.data for frame in receiver.frames()] == [frame.data for frame in frames]
    assert whole(report, len(frames))
    assert (report.sent, report.octets) == (len(frames), 60 * len(frames))
    assert (report.failed, report.skipped, report.unsent) == ({}, {}, 0)
    # None goes early; the first may go late, and those behind it catch up.
    assert report.timing_error is not None
    assert report.duration_ns >= (len(frames) - 1) * 20_000 - report.timing_error.max_ns
    assert report.pps == pytest.approx((len(frames) - 1) / report.duration_ns * 1e9)


def errors_ns(arrived: list[Frame], offsets_ns: list[int]) -> list[int]:
    """How late each frame arrived, against the most punctual one."""
    late = [frame.time_ns - offset_ns for frame, offset_ns in zip(arrived, offsets_ns, strict=True)]
    return [value - min(late) for value in late]


@pytest.mark.net
@pytest.mark.parametrize("options", [{}, {"speed": 0.5}, {"pps": 400.0}])
def test_frames_arrive_at_their_times(veth: VethPair, options: dict[str, float]) -> None:
    """By the receiving kernel's clock; on a machine with other things to do one try in five will be calm."""
    frames = numbered(200, gap_ns=2 * MS)
    for tries_left in range(4, -1, -1):
        receiver = Receiver(veth)
        report = run(frames, veth.near, **options)
        errors = errors_ns(receiver.frames(), offsets(frames, **options))
        if statistics.median(errors) < 200_000 or not tries_left:
            break
    assert abs(min(errors[-50:]) - min(errors[:50])) < 200_000  # no drift
    assert report.timing_error is not None
    if calm():
        assert statistics.median(errors) < 200_000
        assert report.timing_error.median_ns < 200_000
    assert report.timing_error.median_ns <= report.timing_error.p99_ns <= report.timing_error.max_ns


@pytest.mark.net
def test_the_report_says_how_late_frames_went(veth: VethPair) -> None:
    """A reader that hesitates makes the frames behind late, and no frame early."""

    def hesitant() -> Iterator[Frame]:
        for i, frame in enumerate(numbered(2 * BATCH, gap_ns=1000)):
            if i == BATCH + 1:
                time.sleep(0.05)
            yield frame

    error = run(hesitant(), veth.near).timing_error
    assert error is not None
    assert error.max_ns > 45 * MS
    assert error.p99_ns > 45 * MS


@pytest.mark.net
def test_topspeed_loop_and_limit(veth: VethPair, receiver: Receiver) -> None:
    start = time.monotonic()
    report = run(numbered(100, gap_ns=1000 * MS), veth.near, topspeed=True, loop=7, limit=650)
    assert time.monotonic() - start < 30
    assert whole(report, 650)
    assert report.sent == 650
    assert report.timing_error is None
    numbers = [int.from_bytes(frame.data[14:18], "big") for frame in receiver.frames()]
    assert numbers == (list(range(100)) * 7)[:650]


@pytest.mark.net
@pytest.mark.parametrize(
    "options", [{"topspeed": True}, {"pps": 5000.0}, {"topspeed": True, "backend": "xdp"}]
)
def test_the_backend_is_chosen_and_told(veth: VethPair, receiver: Receiver, options: dict[str, Any]) -> None:
    veth.receive_live_frames()
    frames = numbered(100)
    try:
        report = run(frames, veth.near, **options)
    except PermissionDenied as error:
        pytest.skip(str(error))
    assert [frame.data for frame in receiver.frames()] == [frame.data for frame in frames]
    assert whole(report, 100)
    assert report.sent == 100
    assert report.counted is not None
    assert report.counted >= 100
    if "topspeed" not in options:
        assert (report.backend, report.backend_reason) == ("packet", "exact for frames that go one by one")
    elif "backend" in options:
        assert (report.backend, report.backend_reason) == ("xdp", "asked for")
    else:
        assert report.backend in ("xdp", "af-xdp", "packet")
        assert "live frames" in report.backend_reason


@pytest.mark.net
def test_mac_addresses_on_the_wire(veth: VethPair, receiver: Receiver) -> None:
    dst, src = MAC(veth.far_mac), MAC("00:00:5e:00:53:bb")
    frames = numbered(3)
    run(frames, veth.near, rewrite=Rewrite(dst_mac=dst, src_mac=src))
    assert [frame.data for frame in receiver.frames()] == [
        veth.far_mac + bytes(src) + frame.data[12:] for frame in frames
    ]


@pytest.mark.net
def test_a_dry_run_is_what_goes_out(veth: VethPair, receiver: Receiver, tmp_path: Path) -> None:
    frames = numbered(50, gap_ns=3 * MS)
    frames.insert(10, Frame(b"\x45" + bytes(30), START_NS, linktype=101))
    config = ReplayConfig(veth.near, speed=3, loop=2, limit=80, rewrite=Rewrite(dst_mac=MAC(veth.far_mac)))
    planned = dry_run_to(str(tmp_path / "dry.pcapng"), frames, config)
    sent = Replay(frames, config)
    for _ in sent:
        pass
    with open_pcap(tmp_path / "dry.pcapng") as reader:
        dry = list(reader)
    arrived = receiver.frames()
    assert [frame.data for frame in dry] == [frame.data for frame in arrived]
    assert planned.planned == sent.report.planned == sent.report.sent == len(dry) == 78
    assert planned.skipped == sent.report.skipped == {"link type 101 is not Ethernet": 2}
    assert {frame.interface for frame in dry} == {veth.near}
    assert dry[0].time_ns == 0
    # Offsets are the same too; frames are 1 ms apart, and a calm moment is enough to see it.
    lateness = errors_ns(arrived, [frame.time_ns for frame in dry])
    assert statistics.median(lateness) < 20 * MS


@pytest.mark.net
def test_frames_over_the_mtu_fail_and_the_others_go(veth: VethPair, receiver: Receiver) -> None:
    frames = numbered(6)
    frames[1] = numbered(1, length=1515)[0]
    frames[4] = numbered(1, length=60_000)[0]
    report = run(frames, veth.near)
    assert whole(report, 6)
    assert report.failed == {"longer than the interface's MTU": 2}
    assert (report.sent, report.octets) == (4, 240)
    assert len(receiver.frames()) == 4


@pytest.mark.net
def test_frames_as_large_as_files_hold_do_not_overfill_anything(veth: VethPair) -> None:
    frames = numbered(20, gap_ns=0, length=262_144)
    report = run(frames, veth.near, topspeed=True)
    assert whole(report, 20)
    assert report.failed == {"longer than the interface's MTU": 20}


def full_queue(veth: VethPair) -> None:
    """Let the near interface send 256 kbit/s only, and queue 1000 octets."""
    done = subprocess.run(
        [oracle("tc"), "qdisc", "replace", "dev", veth.near, "root",
         "tbf", "rate", "256kbit", "burst", "1600", "limit", "1000"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no token bucket queue here: {done.stderr}")


@pytest.mark.net
def test_a_full_queue_is_waited_for_at_topspeed(veth: VethPair, receiver: Receiver) -> None:
    full_queue(veth)
    report = run(numbered(200), veth.near, topspeed=True)
    time.sleep(0.2)  # the queue empties
    assert whole(report, 200)
    assert report.sent == 200 == len(receiver.frames())


@pytest.mark.net
def test_a_full_queue_is_a_failure_where_waiting_would_make_others_late(
    veth: VethPair, receiver: Receiver
) -> None:
    full_queue(veth)
    report = run(numbered(200, gap_ns=10_000), veth.near)
    time.sleep(0.2)
    assert whole(report, 200)
    assert list(report.failed) == ["the device queue stayed full"]
    assert report.sent == len(receiver.frames()) < 200


@pytest.mark.net
def test_packets_before_damage_are_sent(veth: VethPair, receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    with create_pcap(path) as writer:
        for frame in numbered(BATCH + 30, gap_ns=1000):
            writer.write(frame)
    path.write_bytes(path.read_bytes()[:-10])
    with open_pcap(path) as reader:
        replaying = Replay(reader, ReplayConfig(veth.near))
        with pytest.raises(CaptureFileError) as raised:
            for _ in replaying:
                pass
    assert raised.value.packet == BATCH + 29
    assert replaying.report.sent == BATCH + 29 == len(receiver.frames())


@pytest.mark.net
@pytest.mark.parametrize("change", ["down", "removed"])
def test_an_interface_that_goes_ends_it_with_an_error_and_a_true_report(
    veth: VethPair, receiver: Receiver, change: str
) -> None:
    replaying = Replay(numbered(500, gap_ns=10 * MS), ReplayConfig(veth.near))
    reports = iter(replaying)
    next(reports)
    next(reports)
    with IPRoute() as route:
        if change == "down":
            route.link("set", index=veth.near_index, state="down")
        else:
            route.link("del", index=veth.near_index)
    with pytest.raises(EngineError, match=f"send on {veth.near}"):
        for _ in reports:
            pass
    report = replaying.report
    assert 0 < report.sent < 400
    assert 0 < report.unsent <= BATCH + 1  # read ahead
    assert whole(report, report.sent + report.unsent)
    if change == "down":
        assert len(receiver.frames()) == report.sent


@pytest.mark.net
def test_stop_from_another_thread(veth: VethPair, receiver: Receiver) -> None:
    replaying = Replay(numbered(500, gap_ns=10 * MS), ReplayConfig(veth.near))
    timer = threading.Timer(0.3, replaying.stop)
    timer.start()
    for _ in replaying:
        pass
    assert 0 < replaying.report.sent < 400
    assert 0 < replaying.report.unsent <= BATCH + 1
    assert whole(replaying.report, replaying.report.sent + replaying.report.unsent)
    assert len(receiver.frames()) == replaying.report.sent
    timer.join()


@pytest.mark.net
def test_progress_comes_while_nothing_is_due(veth: VethPair) -> None:
    replaying = Replay(numbered(2, gap_ns=60_000 * MS), ReplayConfig(veth.near))
    start = time.monotonic()
    reports = iter(replaying)
    for _ in range(4):
        next(reports)
    assert 0.1 < time.monotonic() - start < 30
    assert replaying.report.sent == 1
    replaying.stop()
    assert list(reports) == []


@pytest.mark.net
def test_only_ethernet_interfaces(veth: VethPair) -> None:
    with IPRoute() as route:
        try:
            route.link("add", ifname="tun7", kind="tuntap", mode="tun")
        except Exception as error:
            pytest.skip(f"no tun here: {error}")
        try:
            with pytest.raises(RawkitError, match="tun7 is no Ethernet interface"):
                Replay([], ReplayConfig("tun7"))
        finally:
            route.link("del", index=route.link_lookup(ifname="tun7")[0])
    with pytest.raises(UnknownInterface, match="nope0"):
        Replay([], ReplayConfig("nope0"))


@pytest.mark.net
def test_a_file_in_one_call(veth: VethPair) -> None:
    path = Path(__file__).parents[2] / "pcaps" / "dns.pcapng"
    with open_pcap(path) as reader:
        original = [frame.data for frame in reader]
    with veth.namespace.enter():
        live = Capture(veth.far, f"ether src {MAC(original[0][6:12])}")
    with live:
        report = replay(path, veth.near, speed=10)
        live.stop()
        arrived = [frame.data for frame in live]
    assert report.sent == len(original)
    assert arrived == [octets for octets in original if octets[6:12] == original[0][6:12]]


@pytest.mark.net
def test_from_a_running_loop(veth: VethPair) -> None:
    """Frames arrive in order, at their times, while other tasks run; each way of replaying."""
    path = Path(__file__).parents[2] / "pcaps" / "dns.pcapng"
    with open_pcap(path) as reader:
        original = list(reader)

    async def main(**options: object) -> tuple[ReplayReport, int]:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.0005)
                turns += 1

        turning = asyncio.create_task(turn())
        report = await areplay(path, veth.near, **options)  # type: ignore[arg-type]
        turning.cancel()
        return report, turns

    for options in ({"pps": 50.0}, {"topspeed": True}):
        with veth.namespace.enter():
            live = Capture(veth.far, f"ether src {MAC(original[0].data[6:12])}")
        with live:
            report, turns = asyncio.run(main(**options))
            live.stop()
            arrived = [frame.data for frame in live]
        assert whole(report, len(original))
        assert report.sent == len(original)
        assert arrived == [frame.data for frame in original if frame.data[6:12] == original[0].data[6:12]]
        if "pps" in options:
            # The first one may have been late itself.
            assert report.duration_ns > (len(original) - 1) * 20 * MS - max(report.lateness)
            assert turns >= len(original) // 2


@pytest.mark.net
def test_a_cancelled_replay_closes_what_it_opened(veth: VethPair) -> None:
    async def main() -> ReplayReport:
        before = sorted(os.listdir("/proc/self/fd"))
        replaying = Replay(numbered(3, gap_ns=60_000 * MS), ReplayConfig(veth.near))

        async def drive() -> None:
            async for _ in replaying:
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drive(), 0.3)
        assert sorted(os.listdir("/proc/self/fd")) == before
        return replaying.report

    report = asyncio.run(main())
    assert (report.planned, report.sent, report.unsent) == (3, 1, 2)


@pytest.mark.net
def test_a_kernels_merged_segments_arrive_as_a_wire_would_have_them(veth: VethPair, tmp_path: Path) -> None:
    path = tmp_path / "arrived.pcap"
    with veth.namespace.enter():
        live = Capture(veth.far, "tcp")
    with live, open_pcap(PCAPS / "offload.pcapng") as reader:
        report = run(reader, veth.near, topspeed=True, backend="packet")
        live.stop()
        with create_pcap(path, linktype=1) as writer:
            for frame in live:
                writer.write(frame)
    assert (report.read, report.sent, report.failed) == (20, 57, {})
    assert (report.cut, report.pieces, report.finished) == (6, 43, 14)
    command = [
        oracle("tshark"),
        "-n",
        "-r",
        str(path),
        "-o",
        "tcp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]
    for filter, n in (
        ("tcp.checksum.status == 1 && ip.checksum.status == 1", 57),
        ("tcp.analysis.flags || _ws.expert.severity >= 6291456 || frame.len > 1514", 0),
    ):
        done = subprocess.run(
            [*command, "-Y", filter], capture_output=True, text=True, timeout=60, check=True
        )
        assert len(done.stdout.splitlines()) == n
