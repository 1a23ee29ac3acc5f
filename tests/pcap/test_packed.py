"""Packed capture files: read as if they were not, in bounded memory, up to the damage."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import os
import subprocess
import tracemalloc
import zlib

import pytest
from oracles import oracle

from rawkit.errors import CaptureFileError, EngineError
from rawkit.pcap import create_pcap, open_pcap
from rawkit.pcap.sink import Sink
from rawkit.pcap.unpack import CHUNK_LEN
from rawkit.wire.frame import Frame


def zstd(octets: bytes) -> bytes:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        return library.compress(octets, options={library.CompressionParameter.checksum_flag: 1})
    pytest.skip("no library for zstd")


def lz4(octets: bytes) -> bytes:
    return pytest.importorskip("lz4.frame").compress(octets, content_checksum=True)


def xz(octets: bytes) -> bytes:
    return lzma.compress(octets, preset=0)  # the others take seconds


PACKERS = [gzip.compress, bz2.compress, xz, zstd, lz4]
named = pytest.mark.parametrize("pack", PACKERS, ids=["gzip", "bzip2", "xz", "zstd", "lz4"])


def records(make, n: int) -> bytes:
    """Octets that do not pack well, so that there are many packed ones."""
    return b"".join(make.record(os.urandom(40), i) for i in range(n))


@named
def test_a_packed_file_is_read_as_if_it_were_not(make_both, outcome, pack):
    for octets in (make_both.every_block(), make_both.pcap_header() + records(make_both, 20_000)):
        plain, packed = outcome(octets, once=True), outcome(pack(octets), once=True)
        assert plain.error is packed.error is None
        assert packed.frames == plain.frames
        assert packed.reader.statistics == plain.reader.statistics


@named
def test_files_in_a_row_with_padding_are_one(make, outcome, pack):
    octets = make.every_block()
    result = outcome(pack(octets[:100]) + pack(b"") + pack(octets[100:]) + bytes(512))
    assert result.error is None
    assert result.frames == outcome(octets).frames


@named
def test_a_packed_file_cut_short_delivers_what_was_packed_before(make, outcome, pack):
    octets = make.pcap_header() + records(make, 30_000)
    packed = pack(octets)
    seen = -1
    for keep in range(100, len(packed), len(packed) // 4):
        result = outcome(packed[:keep], once=True)
        assert "file is cut short" in result.message
        assert result.data == [octets[24 + 56 * n + 16 : 24 + 56 * (n + 1)] for n in range(len(result.data))]
        assert len(result.frames) >= seen
        seen = len(result.frames)
    # All of them pack in blocks of a megabyte at most.
    assert seen > 10_000
    assert "offset" in result.message
    assert "of the unpacked octets" in result.message


@named
def test_a_damaged_packed_file_says_so(make, outcome, pack):
    octets = make.pcap_header() + records(make, 30_000)
    packed = bytearray(pack(octets))
    packed[len(packed) * 3 // 4] ^= 0x10
    packed[-6] ^= 0x10
    result = outcome(bytes(packed), once=True)
    # gzip, zstd and lz4 check themselves only at the end: damaged packets may come before they say so.
    assert "file is damaged" in result.message or "captured length" in result.message
    assert result.data[:10_000] == [octets[24 + 56 * n + 16 : 24 + 56 * (n + 1)] for n in range(10_000)]


@named
def test_a_bomb_needs_no_memory(make, pack):
    packed = pack(make.pcap_header() + make.record(b"", 1, 0) * 400_000)
    assert len(packed) < 200_000
    tracemalloc.start()
    try:
        with open_pcap(io.BytesIO(packed)) as reader:
            for _, _ in zip(reader, range(20_000), strict=False):
                pass
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("program", ["gzip", "bzip2", "xz", "zstd", "lz4"])
def test_what_the_programs_pack_is_read(make, outcome, tmp_path, program):
    if program == "zstd":
        zstd(b"")
    elif program == "lz4":
        lz4(b"")
    octets = make.pcap_header() + records(make, 5000)
    path = tmp_path / "x"
    path.write_bytes(octets)
    packed = subprocess.run([oracle(program), "-c", path], capture_output=True, check=True).stdout
    assert outcome(packed).frames == outcome(octets).frames


@pytest.mark.parametrize(
    ("magic", "name", "install"),
    [(b"\x28\xb5\x2f\xfd", "zstd", "backports.zstd"), (b"\x04\x22\x4d\x18", "lz4", "lz4")],
)
def test_a_missing_library_is_named(monkeypatch, magic, name, install):
    def missing(module):
        raise ImportError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(
        CaptureFileError, match=f"packed with {name}, .* has no library: pip install {install}"
    ) as caught:
        open_pcap(io.BytesIO(magic + bytes(20)))
    assert (caught.value.offset, caught.value.packet) == (0, 0)


# ---- written packed


def frames(n: int) -> list[Frame]:
    return [Frame(b"%06d" % i + os.urandom(200), time_ns=i) for i in range(n)]


written = pytest.mark.parametrize(
    ("ending", "program"), [("zst", "zstd"), ("gz", "gzip"), ("lz4", "lz4")], ids=["zstd", "gzip", "lz4"]
)


@written
@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_what_is_written_packed_is_what_the_program_unpacks(tmp_path, ending, program, kind):
    require(ending)
    path, plain = tmp_path / f"x.{kind}.{ending}", tmp_path / f"x.{kind}"
    sent = frames(5000)
    for target in (path, plain):
        with create_pcap(target) as writer:
            for i, frame in enumerate(sent):
                writer.write(frame)
                if i % 1000 == 500:
                    writer.flush()
            assert writer.packets == 5000
    unpacked = subprocess.run([oracle(program), "-dc", path], capture_output=True, check=True).stdout
    assert unpacked == plain.read_bytes()
    with open_pcap(path) as reader:
        assert reader.kind == kind
        assert [frame.data for frame in reader] == [frame.data for frame in sent]


@written
def test_a_packed_file_is_whole_at_every_flush(tmp_path, ending, program):
    require(ending)
    path = tmp_path / f"x.pcap.{ending}"
    sent = frames(30)
    with create_pcap(path) as writer:
        for i, frame in enumerate(sent, 1):
            writer.write(frame)
            writer.flush()
            unpacked = subprocess.run([oracle(program), "-dc", path], capture_output=True, check=True).stdout
            assert len(unpacked) == 24 + i * 222


@written
def test_a_packed_file_that_may_not_grow_further_ends_with_its_last_piece(
    tmp_path, ending, program, file_size_limit
):
    require(ending)
    path = tmp_path / f"x.pcap.{ending}"
    writer = create_pcap(path)
    message = "cut back to its last piece that was packed"

    def fill():
        for frame in frames(10_000):
            writer.write(frame)
            writer.flush()

    with writer, file_size_limit(100_000), pytest.raises(EngineError, match=message):
        fill()
    assert subprocess.run([oracle(program), "-t", path]).returncode == 0
    with open_pcap(path) as reader:
        numbers = [int(frame.data[:6]) for frame in reader]
    assert numbers == list(range(writer.packets))
    assert 90_000 < path.stat().st_size <= 100_000


def test_an_interrupted_write_of_a_packed_file_is_done_again(tmp_path, monkeypatch):
    """What comes afterwards does not mix with what was being written."""
    path = tmp_path / "x.pcap.gz"
    put = Sink._put

    def interrupted(self, octets):
        monkeypatch.setattr(Sink, "_put", put)
        put(self, octets[:50])
        raise KeyboardInterrupt

    sent = frames(20)
    with create_pcap(path) as writer:
        for frame in sent[:10]:
            writer.write(frame)
        monkeypatch.setattr(Sink, "_put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.flush()
        for frame in sent[10:]:
            writer.write(frame)
    with open_pcap(path) as reader:
        assert [frame.data for frame in reader] == [frame.data for frame in sent]


def test_a_library_that_is_missing_leaves_no_file(tmp_path, monkeypatch):
    def missing(module):
        raise ImportError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(CaptureFileError, match="x.zst: packed with zstd, .* pip install backports.zstd"):
        create_pcap(tmp_path / "x.zst")
    assert not list(tmp_path.iterdir())


def require(ending: str) -> None:
    """Skip where there is no library for these files."""
    if ending == "zst":
        zstd(b"")
    elif ending == "lz4":
        lz4(b"")


# ---- gzip, whose library gives everything before the damage


def test_gzip_cut_short_delivers_what_was_packed_before(make, outcome):
    octets = make.pcap_header() + b"".join(make.record(os.urandom(40), n) for n in range(1000))
    packed = gzip.compress(octets)
    seen = -1
    for keep in range(20, len(packed), 997):
        result = outcome(packed[:keep], once=True)
        assert "the gzip file is cut short" in result.message
        assert len(result.frames) >= seen
        seen = len(result.frames)
        assert result.data == [octets[24 + 56 * n + 16 : 24 + 56 * (n + 1)] for n in range(seen)]
    assert seen > 900
    assert "offset" in result.message
    assert "of the unpacked octets" in result.message
    assert len(outcome(packed[:-8]).frames) == 1000  # only the checksum is missing
    assert "cut short" in outcome(packed[:-8]).message


def test_gzip_cut_where_a_chunk_is_full_loses_nothing(make, outcome):
    packed = gzip.compress(make.pcap_header() + make.record(b"", 1, 0) * 40_000)
    tried = 0
    for keep in range(len(packed)):
        unpacked = len(zlib.decompressobj(31).decompress(packed[:keep]))
        if CHUNK_LEN < unpacked < CHUNK_LEN + 4000:
            tried += 1
            assert len(outcome(packed[:keep], once=True).frames) == (unpacked - 24) // 16
    assert tried > 1


def test_gzip_with_a_wrong_checksum_delivers_everything_and_then_says_so(make, outcome):
    packed = bytearray(gzip.compress(make.pcap_header() + make.record(b"data") * 5000))
    packed[-8] ^= 1
    result = outcome(bytes(packed), once=True)
    assert len(result.frames) == 5000
    assert "the gzip file is damaged" in result.message


def test_gzip_followed_by_something_else(make, outcome):
    result = outcome(gzip.compress(make.pcap_header() + make.record(b"data")) + b"trailing")
    assert result.data == [b"data"]
    assert "the gzip file is damaged" in result.message
