"""What the writers put into a file, what they refuse, and what is left when the disk is full."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from rawkit.engine import FrameBatch
from rawkit.errors import CaptureFileError, EngineError, FieldError, RawkitError
from rawkit.pcap import PcapngWriter, PcapWriter, Statistics, create_pcap, open_pcap
from rawkit.pcap import sink as sink_module
from rawkit.pcap.sink import BUFFER_LEN
from rawkit.wire import TCP, UDP, Dot1Q, Ether, IPv4, IPv6, Timestamps
from rawkit.wire.frame import Frame
from rawkit.wire.ipv6ext import HopByHop

T = 1_700_000_000_123_456_789


def read(source):
    with open_pcap(source) as reader:
        return list(reader), reader


def blocks(octets):
    """(type, body) of each block of a little-endian pcapng, lengths checked."""
    found = []
    while octets:
        kind, length = struct.unpack_from("<II", octets)
        assert struct.unpack_from("<I", octets, length - 4) == (length,)
        found.append((kind, octets[8 : length - 4]))
        octets = octets[length:]
    return found


# ---- pcap


def test_pcap_octets():
    out = io.BytesIO()
    with PcapWriter(out, linktype=101, snaplen=96) as writer:
        writer.write(Frame(b"abc", T, 1500, 101))
    assert out.getvalue() == (
        struct.pack("<IHHIIII", 0xA1B23C4D, 2, 4, 0, 0, 96, 101)
        + struct.pack("<IIII", 1_700_000_000, 123_456_789, 3, 1500)
        + b"abc"
    )


def test_pcap_in_microseconds_rounds_down():
    out = io.BytesIO()
    with PcapWriter(out, nanoseconds=False) as writer:
        writer.write(Frame(b"abc", T))
    assert out.getvalue()[:4] == bytes.fromhex("d4c3b2a1")
    assert read(io.BytesIO(out.getvalue()))[0][0].time_ns == 1_700_000_000_123_456_000


def test_pcap_refuses_a_second_link_type(tmp_path):
    with PcapWriter(tmp_path / "one.pcap") as writer:
        writer.write(Frame(b"abc"))
        with pytest.raises(
            FieldError, match=r"one\.pcap: .* one link type, here 1, and the frame has 101; pcapng"
        ):
            writer.write(Frame(b"abc", linktype=101))
        writer.write(Frame(b"def"))
    assert [frame.data for frame in read(tmp_path / "one.pcap")[0]] == [b"abc", b"def"]


# ---- pcapng


def test_pcapng_octets():
    out = io.BytesIO()
    with PcapngWriter(out, 96, application="app", os_name="Linux 6", filter="udp") as writer:
        writer.write(Frame(b"abc", T, 1500, 1, "eth0", "out", "not ready", 1448, ("hi",)))
        writer.write_statistics("eth0", received=7, dropped=0, time_ns=T)
    kinds, bodies = zip(*blocks(out.getvalue()), strict=True)
    assert kinds == (0x0A0D0D0A, 1, 6, 5)

    def option(code, value):
        return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)

    end = bytes(4)
    assert bodies[0] == (
        struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + option(3, b"Linux 6") + option(4, b"app") + end
    )
    assert bodies[1] == (
        struct.pack("<HHI", 1, 0, 96)
        + option(2, b"eth0")
        + option(9, b"\x09")
        + option(11, b"\0udp")
        + option(12, b"Linux 6")
        + end
    )
    # The flags word: outbound, checksum not ready, segmentation left to hardware.
    assert bodies[2] == (
        struct.pack("<IIIII", 0, T >> 32, T & 0xFFFFFFFF, 3, 1500)
        + b"abc\0"
        + option(1, b"hi")
        + option(2, struct.pack("<I", 2 | 1 << 9 | 1 << 11))
        + end
    )
    assert bodies[3] == (
        struct.pack("<III", 0, T >> 32, T & 0xFFFFFFFF)
        + option(4, struct.pack("<Q", 7))
        + option(5, struct.pack("<Q", 0))
        + end
    )


def test_everything_is_read_back(tmp_path):
    path = tmp_path / "all.pcapng"
    frames = [
        Frame(b"a", T, 60, 1, "eth0", "in", "valid"),
        Frame(b"", T + 1, 0, 101, "tun0", "out", "not ready", comments=("one", "zwei ✓", "")),
        Frame(b"c" * 1514, T - 1, 1514, 1, "eth0"),
        Frame(b"d", 0, 1, 1, ""),
        Frame(b"e", 2**63 - 1, 1, 113, "eth0"),
    ]
    with PcapngWriter(
        path, hardware="box", os_name="Linux", application="app", comments=("why", "how")
    ) as writer:
        assert (
            writer.add_interface("tun0", 101, snaplen=96, filter="icmp", os_name="other", description="d")
            == 0
        )
        assert writer.add_interface("tun0", 101) == 0
        for frame in frames:
            writer.write(frame)
        writer.write_statistics(
            "eth0", received=10, dropped=2, accepted=9, os_dropped=1, delivered=8, time_ns=5
        )
        writer.write_statistics("late", start_ns=1, end_ns=2)
        assert writer.packets == 5
    back, reader = read(path)
    assert back == frames
    assert (reader.section.hardware, reader.section.os, reader.section.application) == ("box", "Linux", "app")
    assert reader.section.comments == ("why", "how")
    assert [(i.name, i.linktype, i.snaplen, i.tsresol) for i in reader.interfaces] == [
        ("tun0", 101, 96, 9),
        ("eth0", 1, 262_144, 9),
        ("", 1, 262_144, 9),
        ("eth0", 113, 262_144, 9),
        ("late", 1, 262_144, 9),
    ]
    tun = reader.interfaces[0]
    assert (tun.filter, tun.os, tun.description) == ("icmp", "other", "d")
    assert reader.statistics == [
        Statistics("eth0", 5, None, None, 10, 2, 9, 1, 8),
        Statistics("late", 0, 1, 2),
    ]


def test_notes_explain_merged_frames():
    tcp = Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2") / TCP(options=[Timestamps(1, 2)])
    vlan = Ether() / Dot1Q(vid=7) / IPv6() / HopByHop() / UDP() / bytes(2001)
    tunnel = Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=4789) / bytes(3000)
    raw = IPv6() / TCP() / bytes(1001)
    merged = "merged (GRO), or never cut (GSO):"
    frames = [
        (
            Frame(bytes(tcp / bytes(2 * 1448 + 1)), direction="out", checksum="not ready", gso_len=1448),
            "not cut yet (GSO): 3 segments of 1448 octets, transport checksum not ready",
        ),
        (
            Frame(bytes(tcp / bytes(2 * 1448)), direction="in", gso_len=1448),
            f"{merged} 2 segments of 1448 octets",
        ),
        (Frame(bytes(tcp)[:66], wire_len=66 + 2897, gso_len=1448), f"{merged} 3 segments of 1448 octets"),
        (Frame(bytes(tcp)[:40], wire_len=66 + 2897, gso_len=1448), f"{merged} segments of 1448 octets"),
        (Frame(bytes(vlan), gso_len=1000), f"{merged} 3 segments of 1000 octets"),
        (Frame(bytes(tunnel), gso_len=1000), f"{merged} segments of 1000 octets"),
        (Frame(bytes(raw), gso_len=1000, linktype=101), f"{merged} 2 segments of 1000 octets"),
        (Frame(bytes(20) + bytes(raw), gso_len=1000, linktype=276), f"{merged} 2 segments of 1000 octets"),
        (Frame(bytes(raw), gso_len=1000, linktype=9), f"{merged} segments of 1000 octets"),
    ]
    out = io.BytesIO()
    with PcapngWriter(out, notes=True) as writer:
        writer.write(Frame(b"abc", checksum="not ready"))
        for frame, _ in frames:
            frame.comments = ("mine",)
            writer.write(frame)
    (plain, *written), _ = read(io.BytesIO(out.getvalue()))
    assert plain.comments == ()
    assert [frame.comments for frame in written] == [("mine", text) for _, text in frames]
    # Read again the segments' length is known, by frames and by batches; written again the note stays one.
    lens = [frame.gso_len for frame, _ in frames]
    assert [frame.gso_len for frame in written] == lens
    with open_pcap(io.BytesIO(out.getvalue())) as reader:
        found = [row.gso_len for batch in reader.batches() for row in batch.records()]
    assert found == [0, *lens]
    again = io.BytesIO()
    with PcapngWriter(again, notes=True) as writer:
        for frame in written:
            writer.write(frame)
    assert [frame.comments for frame in read(io.BytesIO(again.getvalue()))[0]] == [
        f.comments for f in written
    ]


def test_a_comment_that_is_no_unicode_loses_no_frame():
    out = io.BytesIO()
    with PcapngWriter(out) as writer:
        writer.write(Frame(b"abc", comments=("bad \udcff",)))
    assert read(io.BytesIO(out.getvalue()))[0][0].comments == ("bad \\udcff",)


@pytest.mark.parametrize("name", ["cut.pcap", "cut.pcapng"])
def test_frames_are_cut_to_the_snaplen(tmp_path, name):
    with create_pcap(tmp_path / name, snaplen=60) as writer:
        writer.write(Frame(bytes(100)))
    frames, reader = read(tmp_path / name)
    assert [(len(frame.data), frame.wire_len) for frame in frames] == [(60, 100)]
    assert reader.snaplen == 60


@pytest.mark.parametrize("writer_class", [PcapWriter, PcapngWriter])
@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(bytes(262_145)), "frame of 262145 octets: capture files hold 262144 at most"),
        (Frame(b"", -1), "time_ns -1 lies outside the years 1970 to 2262"),
        (Frame(b"", 2**63), "time_ns 9223372036854775808 lies outside"),
        (Frame(b"", 0, 2**32), "wire_len 4294967296 does not fit 32 bits"),
    ],
)
def test_frames_that_no_file_holds_are_refused_and_harm_nothing(writer_class, frame, message):
    out = io.BytesIO()
    with writer_class(out) as writer:
        with pytest.raises(FieldError, match=message):
            writer.write(frame)
        writer.write(Frame(b"fine"))
    assert [frame.data for frame in read(io.BytesIO(out.getvalue()))[0]] == [b"fine"]


def test_other_values_that_do_not_fit():
    with pytest.raises(FieldError, match="linktype 65536"):
        PcapWriter(io.BytesIO(), linktype=65536)
    with pytest.raises(FieldError, match="snaplen -1"):
        PcapngWriter(io.BytesIO(), -1)
    with PcapWriter(io.BytesIO()) as pcap, pytest.raises(FieldError, match="after the year 2106"):
        pcap.write(Frame(b"", 2**32 * 1_000_000_000))
    out = io.BytesIO()
    with PcapngWriter(out) as writer:
        for refused in (
            lambda: writer.add_interface("x", 65536),
            lambda: writer.add_interface("n" * 65536),
            lambda: writer.write(Frame(b"", comments=("c" * 65536,))),
            lambda: writer.write(Frame(b"", comments=("c" * 65535,) * 257)),
            lambda: writer.write_statistics("x", received=-1),
            lambda: writer.write_statistics("x", received=2**64),
            lambda: writer.write_statistics("x", time_ns=-1),
        ):
            with pytest.raises(FieldError):
                refused()
        writer.write(Frame(b"fine", interface="x"))
    frames, reader = read(io.BytesIO(out.getvalue()))
    assert [frame.data for frame in frames] == [b"fine"]
    assert reader.statistics == []


# ---- files


def test_create_pcap_goes_by_the_name(tmp_path):
    for name, kind in (("a.pcap", "pcap"), ("a.pcapng", "pcapng"), ("a", "pcapng"), ("pcap", "pcapng")):
        create_pcap(tmp_path / name).close()
        assert read(tmp_path / name)[1].kind == kind
    out = io.BytesIO()
    create_pcap(out).close()
    assert read(io.BytesIO(out.getvalue()))[1].kind == "pcapng"


def test_the_header_is_in_the_file_at_once_and_packets_after_flush(tmp_path):
    for name in ("x.pcap", "x.pcapng"):
        path = tmp_path / name
        with create_pcap(path) as writer:
            assert read(path)[0] == []
            writer.write(Frame(b"one"))
            writer.flush()
            assert [frame.data for frame in read(path)[0]] == [b"one"]


def test_the_buffer_is_bounded(tmp_path):
    path = tmp_path / "x.pcap"
    with create_pcap(path) as writer:
        for n in range(2000):
            writer.write(Frame(bytes(1000)))
            assert path.stat().st_size >= 24 + (n + 1) * 1016 - BUFFER_LEN
        assert path.stat().st_size > 0


def test_close_is_idempotent_and_final(tmp_path):
    writer = create_pcap(tmp_path / "x.pcapng")
    writer.write(Frame(b"one"))
    writer.close()
    writer.close()
    assert writer.closed
    with pytest.raises(ValueError, match="writer is closed"):
        writer.write(Frame(b"two"))
    with pytest.raises(ValueError, match="writer is closed"):
        writer.flush()
    assert len(read(tmp_path / "x.pcapng")[0]) == 1


def test_a_stream_is_flushed_and_stays_open(tmp_path):
    with open(tmp_path / "x", "wb") as stream:
        with PcapWriter(stream) as writer:
            writer.write(Frame(b"one"))
        assert len(read(tmp_path / "x")[0]) == 1
        assert not stream.closed


@pytest.mark.parametrize(("uid", "mode"), [(0, 0o600), (1000, 0o644)])
def test_file_mode(tmp_path, monkeypatch, uid, mode):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    path = tmp_path / "x.pcap"
    old = os.umask(0o022)
    try:
        create_pcap(path).close()
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_root_follows_no_link(tmp_path, monkeypatch):
    target, link = tmp_path / "target", tmp_path / "link.pcap"
    target.write_bytes(b"precious")
    link.symlink_to(target)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(OSError, match=r"is a symbolic link, which is not followed as root: .*link\.pcap"):
        create_pcap(link)
    assert target.read_bytes() == b"precious"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    create_pcap(link).close()
    assert read(target)[0] == []


def test_paths_that_cannot_be_created(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/x\.pcap"):
        create_pcap(tmp_path / "nowhere" / "x.pcap")
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        create_pcap(tmp_path)
    with pytest.raises(TypeError, match="binary stream"):
        PcapngWriter(None)


def children(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, **options
    )


def test_what_was_written_gets_into_the_file_by_itself(tmp_path):
    """Nobody flushes, and no further frame comes; then once more, after a pause."""
    path = tmp_path / "x.pcapng"
    with create_pcap(path) as writer:
        for n in range(1, 3):
            writer.write(Frame(b"one", n))
            until(lambda n=n: len(read(path)[0]) == n)
        batch = FrameBatch(2)
        batch.extend([b"two", b"three"])
        writer.write_batch(batch)
        until(lambda: len(read(path)[0]) == 4)


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_octets_wait_in_the_buffer_for_less_than_a_second(tmp_path):
    """By the clock of the thread itself: how long it means to wait, not how busy this machine is."""
    writer = create_pcap(tmp_path / "x.pcap")
    writer.write(Frame(b"one"))
    assert 0 <= writer._sink.flush_aged() <= sink_module.FLUSH_AFTER < 1
    writer.close()


def test_a_killed_process_leaves_a_file_of_whole_records(tmp_path):
    """Killed while it writes as fast as it can: all but the last half second is there."""
    code = """
import sys, time
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame
writer = create_pcap(sys.argv[1])
n = 0
while True:
    writer.write(Frame(bytes(n % 150), n))
    n += 1
    if n % 1000 == 0:
        print(n, time.monotonic(), flush=True)
"""
    path = tmp_path / "killed.pcapng"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True) as process:
        written = []
        for line in process.stdout:
            written.append(line.split())
            if float(written[-1][1]) - float(written[0][1]) > 1.5:
                break
        process.kill()
        written += [line.split() for line in process.stdout]
    frames = []
    # The kernel may have been in the midst of copying the last records.
    with suppress(CaptureFileError), open_pcap(path) as reader:
        frames.extend(reader)
    assert [frame.time_ns for frame in frames] == list(range(len(frames)))
    last = float(written[-1][1])
    assert len(frames) >= max(int(n) for n, when in written if float(when) < last - 1)


def test_a_process_killed_right_after_the_opening_leaves_a_file(tmp_path):
    code = """
import os, signal, sys
from rawkit.pcap import create_pcap
create_pcap(sys.argv[1])
os.kill(os.getpid(), signal.SIGKILL)
"""
    for name in ("x.pcap", "x.pcapng"):
        assert children(code, tmp_path / name).returncode == -signal.SIGKILL
        assert read(tmp_path / name)[0] == []


def test_a_forgotten_writer_is_closed_with_a_warning(tmp_path):
    path = tmp_path / "x.pcapng"
    writer = create_pcap(path)
    writer.write(Frame(b"one"))
    with pytest.warns(ResourceWarning, match=r"x\.pcapng: the writer was never closed"):
        del writer
    assert len(read(path)[0]) == 1
    code = """
import sys
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame
writer = create_pcap(sys.argv[1])
writer.write(Frame(b"one"))
"""
    assert children(code, path, check=True).stderr == ""
    assert len(read(path)[0]) == 1


def test_a_forked_process_writes_nothing(tmp_path):
    """Neither twice what the buffer held, nor between the lines of the process that opened the file."""
    code = """
import os, sys
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame
writer = create_pcap(sys.argv[1])
writer.write(Frame(b"parent"))
if os.fork() == 0:
    try:
        writer.write(Frame(b"child"))
        writer.flush()
    except ValueError as error:
        print("refused" if "of which this is a fork" in str(error) else error, flush=True)
    writer.close()
    del writer
    os._exit(0)
os.wait()
writer.write(Frame(b"parent again"))
writer.close()
"""
    done = children(code, tmp_path / "x.pcapng", check=True)
    assert done.stdout == "refused\n"
    assert [frame.data for frame in read(tmp_path / "x.pcapng")[0]] == [b"parent", b"parent again"]


def test_fsync_policies(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: calls.append(os.fstat(fd).st_size))
    for policy, expected in (("never", []), ("close", [83]), ("always", [24, 43, 83])):
        calls.clear()
        with create_pcap(tmp_path / "x.pcap", fsync=policy) as writer:
            writer.write(Frame(b"one"))
            writer.flush()
            writer.write(Frame(b"four"))
            writer.write(Frame(b"five"))
        assert calls == expected
    with pytest.raises(ValueError, match="fsync is 'sometimes'"):
        create_pcap(tmp_path / "x.pcap", fsync="sometimes")


def test_a_sync_that_fails_is_told(tmp_path, monkeypatch):
    def fail(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    writer = create_pcap(tmp_path / "x.pcap", fsync="close")
    with pytest.raises(EngineError, match=r"sync on .*x\.pcap: Input/output error"):
        writer.close()
    assert writer.closed


def test_interruptions_double_and_lose_nothing(tmp_path):
    """Each millisecond a signal handler raises, in the midst of whatever the writer does."""
    path = tmp_path / "x.pcap"
    code = """
import signal, sys
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame
class Interrupted(Exception): pass
inside = False
def interrupt(number, frame):
    global inside
    if inside:
        inside = False
        raise Interrupted
signal.signal(signal.SIGALRM, interrupt)
writer = create_pcap(sys.argv[1])
interrupted = 0
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while interrupted < 500:
    try:
        inside = True
        while True:
            before = writer.packets
            writer.write(Frame(bytes(1400), before))
    except Interrupted:
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
writer.close()
print(writer.packets)
"""
    done = children(code, path, check=True)
    frames, _ = read(path)
    assert [frame.time_ns for frame in frames] == list(range(int(done.stdout)))


def test_threads_share_a_writer(tmp_path):
    path = tmp_path / "x.pcapng"
    batch = FrameBatch(100)
    batch.extend([b"batch"] * 100)
    with create_pcap(path) as writer:
        threads = [
            threading.Thread(target=lambda: [writer.write_batch(batch) for _ in range(50)]),
            threading.Thread(target=lambda: [writer.write(Frame(bytes(1000))) for _ in range(1000)]),
            threading.Thread(target=lambda: [writer.flush() for _ in range(200)]),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    frames, _ = read(path)
    assert len(frames) == writer.packets == 6000


def test_standard_output():
    code = (
        "from rawkit.pcap import create_pcap; from rawkit.wire.frame import Frame\n"
        "with create_pcap('-') as w: w.write(Frame(b'x', 5))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert read(io.BytesIO(result.stdout))[0] == [Frame(b"x", 5)]


# ---- when writing fails


def write_many(writer):
    for n in range(10_000):
        writer.write(Frame(bytes([n % 256]) * (n % 300), n))


def write_batches(writer):
    batch = FrameBatch(1000)
    for start in range(0, 10_000, 1000):
        batch.clear()
        for n in range(start, start + 1000):
            batch.append(bytes([n % 256]) * (n % 300), n)
        writer.write_batch(batch)


@pytest.mark.parametrize("name", ["full.pcap", "full.pcapng"])
@pytest.mark.parametrize("limit", [65_536, 100_001, 100_000, 600_003])
@pytest.mark.parametrize("write", [write_many, write_batches])
def test_a_full_disk_leaves_whole_records(tmp_path, name, limit, write, file_size_limit):
    path = tmp_path / name
    writer = create_pcap(path)
    with file_size_limit(limit):
        with pytest.raises(EngineError, match=rf"write on .*{name}: .*its last whole record") as caught:
            write(writer)
        assert caught.value.errno == errno.EFBIG
        with pytest.raises(EngineError):
            writer.write(Frame(b"more"))
        with pytest.raises(EngineError):
            writer.flush()
    writer.close()
    frames, _ = read(path)
    assert len(frames) == writer.packets
    assert f"it holds {writer.packets} packets" in str(caught.value)
    assert [frame.time_ns for frame in frames] == list(range(writer.packets))
    assert limit - 400 < path.stat().st_size <= limit


def test_a_full_disk_found_at_close(tmp_path, monkeypatch, file_size_limit):
    monkeypatch.setattr(sink_module, "FLUSH_AFTER", 3600)
    path = tmp_path / "full.pcapng"
    writer = create_pcap(path)
    for n in range(100):
        writer.write(Frame(bytes(100), n))
    with file_size_limit(5000), pytest.raises(EngineError):
        writer.close()
    assert writer.closed
    assert len(read(path)[0]) == writer.packets < 100


def test_a_full_disk_that_the_thread_finds_is_told(tmp_path, monkeypatch, file_size_limit):
    monkeypatch.setattr(sink_module, "FLUSH_AFTER", 0.01)
    for then in (lambda writer: writer.write(Frame(b"more")), lambda writer: writer.close()):
        writer = create_pcap(tmp_path / "full.pcapng")
        with file_size_limit(300):
            writer.write(Frame(bytes(50)))
            writer.write(Frame(bytes(300)))
            until(lambda writer=writer: writer._sink._error is not None)
        assert writer.packets == 1
        with pytest.raises(EngineError, match="its last whole record, it holds 1 packets"):
            then(writer)
        writer.close()
        assert len(read(tmp_path / "full.pcapng")[0]) == 1


def test_no_room_for_the_header(tmp_path, file_size_limit):
    with file_size_limit(10), pytest.raises(EngineError, match=r"x\.pcap"):
        create_pcap(tmp_path / "x.pcap")
    assert (tmp_path / "x.pcap").read_bytes() == b""


def test_a_full_device():
    with pytest.raises(EngineError, match="write on /dev/full: No space left on device") as caught:
        create_pcap("/dev/full")
    assert caught.value.errno == errno.ENOSPC
    assert isinstance(caught.value, RawkitError)


@pytest.mark.net
def test_a_full_file_system(tmp_path):
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}"
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode
    ):
        pytest.skip("mounting in a private namespace is not permitted")
    code = """
import sys
from rawkit.errors import EngineError
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire.frame import Frame
writer = create_pcap(sys.argv[1])
try:
    for n in range(10_000):
        writer.write(Frame(bytes(100), n))
except EngineError as error:
    print(error)
writer.close()
with open_pcap(sys.argv[1]) as reader:
    print(writer.packets, len(list(reader)))
"""
    python = [sys.executable, "-c", code, f"{tmp_path}/x.pcapng"]
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh", *python],
        capture_output=True,
        text=True,
        check=True,
    )
    message, counts = result.stdout.splitlines()
    assert "x.pcapng: No space left on device" in message
    written, found = map(int, counts.split())
    assert written == found > 300


def test_a_reader_that_went_away():
    readable, writable = os.pipe()
    os.close(readable)
    with open(writable, "wb", buffering=0) as stream, pytest.raises(BrokenPipeError):
        PcapngWriter(stream)


@pytest.mark.parametrize("buffering", [0, 8192])
def test_a_pipe_that_does_not_wait_gets_whole_records(buffering):
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    frames = [Frame(os.urandom(900), n) for n in range(1000)]
    back = []
    with open(readable, "rb") as source, open(writable, "wb", buffering=buffering) as stream:
        thread = threading.Thread(target=lambda: back.extend(read(source)[0]))
        thread.start()
        with PcapngWriter(stream) as writer:
            for frame in frames:
                writer.write(frame)
        stream.close()
        thread.join()
    assert back == frames


def test_signals_while_a_pipe_is_full_break_no_record():
    """Its reader takes a little each time; a signal comes every millisecond."""
    code = """
import signal
from rawkit.pcap import create_pcap
from rawkit.wire.frame import Frame
count = 0
def tick(number, frame):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
with create_pcap("-") as writer:
    for n in range(2000):
        writer.write(Frame(bytes([n % 256]) * 1000, n))
    writer.flush()
    signal.setitimer(signal.ITIMER_REAL, 0)
assert count > 5
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, bufsize=0) as process:
        octets = b""
        while part := process.stdout.read(20_000):
            octets += part
            time.sleep(0.0005)
    assert process.returncode == 0
    assert read(io.BytesIO(octets))[0] == [Frame(bytes([n % 256]) * 1000, n) for n in range(2000)]


def test_a_stream_that_takes_a_little_at_a_time():
    class Slow(io.RawIOBase):
        octets = b""

        def write(self, octets):
            self.octets += octets[:7]
            return len(octets[:7])

    stream = Slow()
    with PcapWriter(stream) as writer:
        writer.write(Frame(b"abcdefgh" * 50))
    assert read(io.BytesIO(stream.octets))[0] == [Frame(b"abcdefgh" * 50)]


def test_a_stream_whose_write_says_nothing():
    class Plain:
        octets = b""

        def write(self, octets):
            self.octets += octets

    stream = Plain()
    with PcapngWriter(stream) as writer:
        writer.write(Frame(b"abc"))
    assert read(io.BytesIO(stream.octets))[0] == [Frame(b"abc")]
