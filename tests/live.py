"""What tests of live traffic share: links that change, and frames that tell much about who carries them."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pyroute2 import IPRoute

if TYPE_CHECKING:
    from conftest import VethPair

    from rawkit.wire.frame import Frame

LOCAL = 0x88B5  # EtherType for local experiments

TAG_STACKS = {
    "802.1Q": [(0x8100, 7)],
    "802.1ad": [(0x88A8, 0x6123)],
    "QinQ": [(0x88A8, 100), (0x8100, 0xEFFF)],
    "twice": [(0x8100, 1), (0x8100, 2)],
}
"""VLAN tags one after the other, as (TPID, TCI)."""


def set_link(name: str, **attributes: Any) -> None:
    """Change a link (`state="down"`, `mtu=...`); one that is set up really sends when this returns."""
    with IPRoute() as route:
        route.link("set", index=route.link_lookup(ifname=name)[0], **attributes)
        end = time.monotonic() + 5
        while attributes.get("state") == "up" and route.get_links(ifname=name)[0].get_attr(
            "IFLA_OPERSTATE"
        ) not in ("UP", "UNKNOWN"):
            assert time.monotonic() < end, f"{name} stays down"
            time.sleep(0.002)  # until then the kernel drops frames without a word


def before_long(true: Callable[[], bool]) -> bool:
    """Whether it comes true, within more time than the busiest machine takes."""
    end = time.monotonic() + 20
    while not (done := true()) and time.monotonic() < end:
        time.sleep(0.002)
    return done


def delete_link(name: str) -> None:
    with IPRoute() as route:
        route.link("del", index=route.link_lookup(ifname=name)[0])


def tagged_frame(veth: VethPair, tags: list[tuple[int, int]]) -> bytes:
    """A frame from near to far with these VLAN tags."""
    stack = b"".join(struct.pack(">HH", *tag) for tag in tags)
    return veth.header(0)[:12] + stack + LOCAL.to_bytes(2, "big") + bytes(range(60))


def varied(veth: VethPair) -> list[bytes]:
    """Frames from near to far that filters tell apart: with and without tags, IP, ARP, of several lengths."""
    packet = struct.pack(">BBHHHBBH8s", 0x45, 0, 50, 1, 0, 64, 253, 0, bytes(8)) + bytes(30)
    chain = struct.pack(">IHBB", 0x60000000, 16, 0, 64) + bytes(32) + bytes([253, 0, 1, 4]) + bytes(12)
    macs = veth.header(0)[:12]
    return [
        macs + b"\x08\x00" + packet,
        macs + b"\x81\x00\x00\x07\x08\x00" + packet,
        macs + b"\x81\x00\x00\x08\x08\x00" + packet,
        macs + b"\x88\xa8\x00\x07\x81\x00\x00\x09\x88\xb5" + bytes(46),
        macs + b"\x81\x00\x00\x07\x08\x06" + bytes(46),
        macs + b"\x08\x06" + bytes(46),
        macs + b"\x86\xdd" + chain,
        macs + b"\x88\xb5" + bytes(46),
        macs + b"\x88\xb5" + bytes(99),
    ]


VARIED_FILTERS = [
    "ip", "not ip", "vlan", "vlan 7", "vlan and ip", "not vlan", "arp", "ether proto 0x88b5", "less 70",
    "", "ip proto 253 or (vlan 7 and vlan 9)", "ip6 protochain 253",
]  # fmt: skip


def tcp_payload(frames: Iterable[Frame], length: int) -> bytes:
    """What one direction of a TCP connection over IPv4 carried, from its SYN on; `length` octets of it."""
    segments = [frame.data[14 + (frame.data[14] & 15) * 4 :] for frame in frames]
    (start,) = {int.from_bytes(s[4:8], "big") + 1 for s in segments if s[13] & 2}
    stream = bytearray(length)
    for segment in segments:
        if payload := segment[(segment[12] >> 4) * 4 :]:
            at = (int.from_bytes(segment[4:8], "big") - start) & 0xFFFFFFFF
            stream[at : at + len(payload)] = payload
    return bytes(stream)
