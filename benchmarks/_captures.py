"""A large capture file to read, the same octets each time, made with nothing of rawkit."""

from __future__ import annotations

import random
import struct
from pathlib import Path

LENGTHS = (60, 66, 90, 300, 576, 590, 1514, 1514)  # octets, 589 on average
_TEMPLATES = 256


def make(path: Path, packets: int) -> None:
    """Write `packets` Ethernet frames of about LENGTHS: IPv4 and IPv6, TCP and UDP, in many conversations.

    A pcap in microseconds, as every reader knows it, or by the name's suffix the like as pcapng.
    """
    rng = random.Random(4)
    frames = [_frame(rng, rng.choice(LENGTHS)) for _ in range(_TEMPLATES)]
    pcapng = path.suffix == ".pcapng"
    with path.open("wb") as file:
        if pcapng:
            file.write(_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
            file.write(_block(1, struct.pack("<HHI", 1, 0, 262_144)))
        else:
            file.write(struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1))
        parts = []
        for n in range(packets):
            length, before, after = frames[rng.randrange(_TEMPLATES)]
            data = b"".join((before, struct.pack(">H", 1024 + n % 60_000), after))
            usec = 1_700_000_000_000_000 + n * 10
            if pcapng:
                body = struct.pack("<IIIII", 0, usec >> 32, usec & 0xFFFFFFFF, length, length)
                parts.append(_block(6, b"".join((body, data, bytes(-length % 4)))))
            else:
                parts.append(struct.pack("<IIII", usec // 1_000_000, usec % 1_000_000, length, length))
                parts.append(data)
            if n % 4096 == 4095:
                file.write(b"".join(parts))
                parts.clear()
        file.write(b"".join(parts))


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", 12 + len(body))
    return b"".join((struct.pack("<I", kind), length, body, length))


def _frame(rng: random.Random, length: int) -> tuple[int, bytes, bytes]:
    """The length of a frame, and its octets before and after the source port.

    TCP with the timestamp option, as nearly every segment has it; UDP is DNS when it is short and else as
    opaque as QUIC.
    """
    six, udp = rng.random() < 0.3, rng.random() < 0.3
    network_len = 40 if six else 20
    least = 14 + network_len + (8 + 12 + 9 if udp else 32)
    length = max(length, least)
    payload_len = length - 14 - network_len
    protocol = 17 if udp else 6
    if six:
        network = struct.pack(">IHBB", 6 << 28, payload_len, protocol, 64)
        network += bytes.fromhex("fd77") + rng.randbytes(14) + bytes.fromhex("fd77") + rng.randbytes(14)
    else:
        fixed = struct.pack(">BBHHHBBH", 0x45, 0, length - 14, rng.randrange(65536), 0x4000, 64, protocol, 0)
        network = fixed + b"\x0a" + rng.randbytes(3) + b"\x0a" + rng.randbytes(3)
    if udp:
        dns = length <= 300
        transport = struct.pack(">HHH", 53 if dns else 443, payload_len, 0)
        payload = _dns(rng, payload_len - 8) if dns else rng.randbytes(payload_len - 8)
    else:
        seq, ack = rng.getrandbits(32), rng.getrandbits(32)
        transport = struct.pack(">HIIBBHHH", 443, seq, ack, 0x80, 0x18, 64240, 0, 0)
        transport += struct.pack(">BBBBII", 1, 1, 8, 10, seq, ack)
        payload = rng.randbytes(payload_len - 32)
    macs = bytes.fromhex("00005e005302" + "00005e005301")
    before = macs + (b"\x86\xdd" if six else b"\x08\x00") + network
    return length, before, transport + payload


def _dns(rng: random.Random, length: int) -> bytes:
    """A DNS message of so many octets: one question, and as many A records as there is room for."""
    answers, name_len = divmod(length - 12 - 9, 16)
    name = bytes([name_len + 3]) + b"n" * (name_len + 3) + b"\0"
    header = struct.pack(">HHHHHH", rng.randrange(65536), 0x8180 if answers else 0x0100, 1, answers, 0, 0)
    records = [struct.pack(">HHHIH", 0xC00C, 1, 1, 300, 4) + rng.randbytes(4) for _ in range(answers)]
    return b"".join((header, name, struct.pack(">HH", 1, 1), *records))
