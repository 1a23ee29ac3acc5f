"""The C checksums equal the Python reference, in every variant that this processor has."""

from __future__ import annotations

import array
import errno
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rawkit._native import lib

from rawkit.engine.checksum import checksum, checksum_add, checksum_update, crc32c
from rawkit.wire import checksum as reference

BEST = lib.rk_cpu_level()
WORD = st.integers(0, 0xFFFF)


@pytest.fixture(
    params=[lib.RK_CPU_PORTABLE, lib.RK_CPU_SSE42, lib.RK_CPU_AVX2], ids=["portable", "sse42", "avx2"]
)
def level(request: pytest.FixtureRequest) -> Iterator[int]:
    """Each variant in turn."""
    if request.param > BEST:
        pytest.skip("this processor lacks the instructions")
    assert lib.rk_cpu_set_level(request.param) == 0
    assert lib.rk_cpu_level() == request.param
    yield request.param
    assert lib.rk_cpu_set_level(BEST) == 0


def test_equals_reference_at_every_length_and_alignment(level: int) -> None:
    room = bytearray(random.Random(level).randbytes(301 + 32))
    for length in range(301):
        for alignment in (0, 1, 2, 3, 7, 8, 15, 31):
            piece = memoryview(room)[alignment : alignment + length]
            octets = bytes(piece)
            assert checksum(piece) == reference.python_checksum(octets)
            assert checksum(octets) == reference.python_checksum(octets)
            assert checksum_add(0xFFFE, piece) == reference.python_add(0xFFFE, octets)
            assert crc32c(length, piece) == reference.python_crc32c(length, octets)


@pytest.mark.parametrize("fill", [0, 0xFF])
def test_equals_reference_on_uniform_octets(level: int, fill: int) -> None:
    for length in [*range(301), 1499, 1500, 65535, 65536, 1 << 20]:
        octets = bytes([fill]) * length
        assert checksum(octets) == reference.python_checksum(octets)


def test_million_headers(level: int) -> None:
    """10**6 random headers of 20 octets."""
    octets = random.Random(level).randbytes(20 * 10**6)
    ours, theirs = checksum, reference.python_checksum
    wrong = [
        octets[at : at + 20].hex()
        for at in range(0, len(octets), 20)
        if ours(octets[at : at + 20]) != theirs(octets[at : at + 20])
    ]
    assert wrong == []


@given(st.binary(min_size=2, max_size=40).filter(lambda data: len(data) % 2 == 0), st.integers(0, 19), WORD)
def test_update_equals_recomputation(data: bytes, word: int, new: int) -> None:
    """RFC 1624 section 3, except where nothing but zeros is left."""
    at = word * 2 % len(data)
    old = int.from_bytes(data[at : at + 2], "big")
    changed = data[:at] + new.to_bytes(2, "big") + data[at + 2 :]
    expected = checksum(changed) if any(changed) else 0
    assert checksum_update(checksum(data), old, new) == expected


@given(WORD, WORD, WORD)
def test_update_equals_reference(before: int, old: int, new: int) -> None:
    assert checksum_update(before, old, new) == reference.update(before, old, new)


@pytest.mark.parametrize("addr_len", [4, 16])
@given(data=st.data())
def test_pseudo_header_equals_reference(addr_len: int, data: st.DataObject) -> None:
    src = data.draw(st.binary(min_size=addr_len, max_size=addr_len))
    dst = data.draw(st.binary(min_size=addr_len, max_size=addr_len))
    protocol, upper_len = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 2**32 - 1))
    expected = reference.pseudo_header(src, dst, protocol, upper_len)
    assert lib.rk_csum_pseudo(src, dst, addr_len, protocol, upper_len) == expected


def test_any_buffer() -> None:
    """What counts are the octets, not the items."""
    words = array.array("I", [1, 2**32 - 1, 77])
    expected = reference.python_checksum(words.tobytes())
    for buffer in (words, memoryview(words), bytearray(words), words.tobytes()):
        assert checksum(buffer) == expected
        assert checksum_add(0, buffer) == 0xFFFF ^ expected
        assert crc32c(0, buffer) == reference.python_crc32c(0, words.tobytes())
    assert checksum(memoryview(b"")) == 0xFFFF

    class Octets(bytes):
        pass

    assert checksum(Octets(b"\1\2")) == 0xFEFD


@pytest.mark.parametrize("bad", [[1, 2], "text", 7, None])
def test_refuses_what_is_no_buffer(bad: object) -> None:
    for call in (checksum, lambda b: checksum_add(0, b), lambda b: crc32c(0, b)):
        with pytest.raises(TypeError):
            call(bad)  # type: ignore[arg-type]


def test_refuses_scattered_octets() -> None:
    with pytest.raises(BufferError):
        checksum(memoryview(b"abcdef")[::2])


def test_refuses_numbers_out_of_range() -> None:
    with pytest.raises(OverflowError):
        checksum_add(2**32, b"")
    with pytest.raises(OverflowError):
        crc32c(-1, b"")
    with pytest.raises(OverflowError):
        checksum_update(0, 0x10000, 0)


@pytest.mark.parametrize("level", [-1, lib.RK_CPU_AVX2 + 1])
def test_refuses_unknown_level(level: int) -> None:
    assert lib.rk_cpu_set_level(level) == -errno.ENOTSUP
    assert lib.rk_cpu_level() == BEST


def test_import_registers_with_wire() -> None:
    """In a process of its own: wire is slow and pure before, and fast after the engine came."""
    program = (
        "import sys\n"
        "from rawkit.wire import checksum as wire\n"
        "assert wire.add is wire.python_add and 'rawkit._native' not in sys.modules\n"
        "from rawkit.engine.checksum import checksum, checksum_add, crc32c\n"
        "assert (wire.add, wire.checksum, wire.crc32c) == (checksum_add, checksum, crc32c)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_scapy_and_dpkt_agree(level: int) -> None:
    scapy = pytest.importorskip("scapy.utils")
    dpkt = pytest.importorskip("dpkt")
    source = random.Random(level)
    for length in (20, 21, 40, 576, 1499, 1500, 65535):
        octets = source.randbytes(length)
        assert checksum(octets) == scapy.checksum(octets) == dpkt.dpkt.in_cksum(octets)
