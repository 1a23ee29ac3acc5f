"""The Python checksums against definitions, published vectors, scapy and dpkt."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.wire import checksum

WORD = st.integers(0, 0xFFFF)


def naive_sum(data: bytes, total: int = 0) -> int:
    """RFC 1071 section 1, word by word with the carry brought round each time."""
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total >> 16) + (total & 0xFFFF)
    return total


@pytest.fixture
def restored() -> Iterator[None]:
    """Leave the functions in use as they were."""
    in_use = checksum.add, checksum.checksum, checksum.crc32c
    yield
    checksum.use(*in_use)


def test_rfc1071_worked_example() -> None:
    """RFC 1071 section 3: the sum of these octets is ddf2."""
    assert checksum.python_add(0, bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2
    assert checksum.python_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


@pytest.mark.parametrize("length", range(301))
def test_sum_at_every_length(length: int) -> None:
    for data in (random.Random(length).randbytes(length), b"\xff" * length, bytes(length)):
        assert checksum.python_add(0, data) == naive_sum(data)
        assert checksum.python_add(0xFFFE, data) == naive_sum(data, 0xFFFE)
        assert checksum.python_checksum(data) == naive_sum(data) ^ 0xFFFF


def test_zero_only_for_zero() -> None:
    """A sum of words that is not zero is 0xffff at that point, never 0."""
    assert checksum.python_add(0, b"") == 0
    assert checksum.python_add(0, bytes(20)) == 0
    assert checksum.python_add(0, b"\xff\xff" * 10) == 0xFFFF
    assert checksum.python_add(0, b"\xff\xfe\x00\x01") == 0xFFFF
    assert checksum.python_add(0xFFFF, b"") == 0xFFFF


@given(st.binary(max_size=64).filter(lambda data: len(data) % 2 == 0), st.binary(max_size=64))
def test_sum_in_pieces(first: bytes, second: bytes) -> None:
    assert checksum.python_add(checksum.python_add(0, first), second) == checksum.python_add(
        0, first + second
    )


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_octets(kind: type) -> None:
    assert checksum.python_checksum(kind(b"\x00\x01\xf2")) == naive_sum(b"\x00\x01\xf2") ^ 0xFFFF
    assert checksum.python_crc32c(0, kind(b"123456789")) == 0xE3069283


@given(
    st.lists(WORD, min_size=2, max_size=20),
    st.integers(0, 19),
    st.sampled_from([0, 1, 0xFFFE, 0xFFFF]) | WORD,
)
def test_update_equals_recomputation(words: list[int], at: int, new: int) -> None:
    """RFC 1624 section 3: except where nothing but zeros is left, which no packet is."""
    at %= len(words)
    before = checksum.python_checksum(b"".join(word.to_bytes(2, "big") for word in words))
    changed = [*words[:at], new, *words[at + 1 :]]
    after = checksum.python_checksum(b"".join(word.to_bytes(2, "big") for word in changed))
    assert checksum.update(before, words[at], new) == (after if any(changed) else 0)


def test_rfc1624_example() -> None:
    """RFC 1624 section 4: dd2f, and 5555 becomes 3285; the earlier equation gave ffff."""
    assert checksum.update(0xDD2F, 0x5555, 0x3285) == 0x0000


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 255),
    st.sampled_from([4, 16]).flatmap(lambda n: st.binary(min_size=2 * n, max_size=2 * n)),
)
def test_pseudo_header(upper_len: int, protocol: int, addresses: bytes) -> None:
    """The layouts of RFC 9293 section 3.1 and RFC 8200 section 8.1, summed as they stand."""
    half = len(addresses) // 2
    if half == 4:
        layout = addresses + bytes([0, protocol]) + upper_len.to_bytes(2, "big")
    else:
        layout = addresses + upper_len.to_bytes(4, "big") + bytes([0, 0, 0, protocol])
    assert checksum.pseudo_header(addresses[:half], addresses[half:], protocol, upper_len) == naive_sum(
        layout
    )


def test_pseudo_header_of_a_jumbogram() -> None:
    layout = bytes(range(32)) + (0x12345).to_bytes(4, "big") + bytes([0, 0, 0, 6])
    assert checksum.pseudo_header(bytes(range(16)), bytes(range(16, 32)), 6, 0x12345) == naive_sum(layout)


@pytest.mark.parametrize(("src_len", "dst_len"), [(0, 0), (6, 6), (4, 16), (16, 4)])
def test_pseudo_header_refuses_other_addresses(src_len: int, dst_len: int) -> None:
    with pytest.raises(ValueError, match=f"addresses of {src_len} and {dst_len} octets"):
        checksum.pseudo_header(bytes(src_len), bytes(dst_len), 6, 20)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720 section B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_crc32c_vectors(data: bytes, expected: int) -> None:
    assert checksum.python_crc32c(0, data) == expected
    for cut in range(len(data)):
        assert checksum.python_crc32c(checksum.python_crc32c(0, data[:cut]), data[cut:]) == expected


def test_use(restored: None) -> None:
    checksum.use(lambda sum, data: 1, lambda data: 2, lambda crc, data: 3)
    assert (checksum.add(0, b""), checksum.checksum(b""), checksum.crc32c(0, b"")) == (1, 2, 3)
    checksum.use()
    assert checksum.add is checksum.python_add
    assert checksum.checksum is checksum.python_checksum
    assert checksum.crc32c is checksum.python_crc32c


def test_scapy_agrees() -> None:
    scapy = pytest.importorskip("scapy.utils")
    source = random.Random(2)
    for length in range(200):
        data = source.randbytes(length)
        assert checksum.python_checksum(data) == scapy.checksum(data)


def test_dpkt_agrees() -> None:
    dpkt = pytest.importorskip("dpkt")
    source = random.Random(3)
    for length in range(200):
        data = source.randbytes(length)
        assert checksum.python_checksum(data) == dpkt.dpkt.in_cksum(data)


def test_scapy_agrees_on_sctp() -> None:
    """SCTP carries CRC32c with its octets swapped (RFC 9260 appendix A)."""
    sctp = pytest.importorskip("scapy.layers.sctp")
    packet = bytes(sctp.SCTP(sport=1, dport=2, tag=3) / sctp.SCTPChunkInit(init_tag=4))
    fresh = checksum.python_crc32c(0, packet[:8] + bytes(4) + packet[12:])
    assert packet[8:12] == fresh.to_bytes(4, "little")
