"""Multipath TCP, version 1: one TCP option with a subtype (RFC 8684 section 3)."""

from __future__ import annotations

from typing import Annotated

from rawkit.wire.field import (
    Octets,
    field,
    flags4,
    flags8,
    ip4,
    ip6,
    octets,
    u1,
    u2,
    u3,
    u4,
    u7,
    u8,
    u12,
    u16,
    u32,
    u64,
)
from rawkit.wire.option import Option
from rawkit.wire.tcp import TCPOption

RESET_REASONS = {
    0: "unspecified", 1: "MPTCP-specific", 2: "lack of resources", 3: "administratively prohibited",
    4: "too much outstanding data", 5: "unacceptable performance", 6: "middlebox interference",
}  # fmt: skip


class MPTCP(TCPOption):
    """What the classes of the option have in common. Its length tells the shapes of a subtype apart."""

    kind = 30

    def summary(self) -> str:
        return f"mptcp {type(self).__name__}"


class UnknownMPTCP(MPTCP, kind=30):
    """A subtype, or a shape of one, without a class of its own."""

    subtype: u4
    bits: u4 = 0
    data: octets = b""

    @classmethod
    def of_body(cls, body: bytes) -> type[Option]:
        subtype = body[0] >> 4 if body else -1
        if subtype == 2 and len(body) >= 2:
            sizes = (0, 4, 0, 8)  # by the two flags that say whether a number is there, and how long it is
            rest = len(body) - 2 - sizes[body[1] & 3]
            if not body[1] & 4:
                return DSSAck
            return DSS if rest == sizes[body[1] >> 2 & 3] + 6 else DSSChecksum
        return SHAPES.get(subtype, {}).get(len(body), cls)


class MPCapable(MPTCP):
    """Opens a connection: in the SYN without key, in version 1 (section 3.1)."""

    subtype: u4 = 0
    version: u4 = 1
    flags: flags8 = field("H", bits="H G F E D C B A")


class MPCapableSYNACK(MPCapable):
    """With the sender's key."""

    sender_key: u64 = 0


class MPCapableACK(MPCapableSYNACK):
    """With the keys of both."""

    receiver_key: u64 = 0


class MPCapableData(MPCapableACK):
    """With the length of the data in the segment."""

    data_len: u16 = 0


class MPCapableDataChecksum(MPCapableData):
    """With its checksum too."""

    checksum: u16 = 0


class MPJoin(MPTCP):
    """Adds a subflow, in the SYN: the receiver's token and a random number (section 3.2)."""

    subtype: u4 = 1
    reserved: u3 = 0
    backup: u1 = 0
    address_id: u8 = 0
    token: u32 = 0
    nonce: u32 = 0


class MPJoinSYNACK(MPTCP):
    """The answer: the first 64 bits of the sender's HMAC, and its random number."""

    subtype: u4 = 1
    reserved: u3 = 0
    backup: u1 = 0
    address_id: u8 = 0
    hmac: u64 = 0
    nonce: u32 = 0


class MPJoinACK(MPTCP):
    """The third: the first 160 bits of the HMAC."""

    subtype: u4 = 1
    reserved: u12 = 0
    hmac: Annotated[bytes, Octets(20)] = bytes(20)


class DSSAck(MPTCP):
    """Data sequence signal (section 3.3): a data acknowledgement at most.

    `ack_form` is the flags a and A: 1 for an acknowledgement of 32 bits, 3 for one of 64, in `ack8`;
    `dsn_form` the flags m and M, in the same way for the data sequence number. `fin` is F.
    """

    subtype: u4 = 2
    reserved: u7 = 0
    fin: u1 = 0
    dsn_form: u2 = 0
    ack_form: u2 = 0
    ack: u32 | None = field(when=("ack_form", 1))
    ack8: u64 | None = field(when=("ack_form", 3))


class DSS(DSSAck):
    """With a mapping: data sequence number, where that is in the subflow, and how many octets it covers."""

    dsn_form: u2 = 1
    dsn: u32 | None = field(when=("dsn_form", 1))
    dsn8: u64 | None = field(when=("dsn_form", 3))
    subflow_seq: u32 = 0
    data_len: u16 = 0


class DSSChecksum(DSS):
    """With a mapping and the checksum over it and its data."""

    checksum: u16 = 0


class MPAddAddress(MPTCP):
    """Tells of an IPv4 address (section 3.4.1); an echo, which confirms it, has no HMAC."""

    subtype: u4 = 3
    reserved: u3 = 0
    echo: u1 = 0
    address_id: u8 = 0
    address: ip4 = field("0.0.0.0")
    hmac: u64 | None = field(when=("echo", 0))


class MPAddAddressPort(MPTCP):
    """Tells of an IPv4 address and a port."""

    subtype: u4 = 3
    reserved: u3 = 0
    echo: u1 = 0
    address_id: u8 = 0
    address: ip4 = field("0.0.0.0")
    port: u16 = 0
    hmac: u64 | None = field(when=("echo", 0))


class MPAddAddress6(MPTCP):
    """Tells of an IPv6 address."""

    subtype: u4 = 3
    reserved: u3 = 0
    echo: u1 = 0
    address_id: u8 = 0
    address: ip6 = field("::")
    hmac: u64 | None = field(when=("echo", 0))


class MPAddAddress6Port(MPTCP):
    """Tells of an IPv6 address and a port."""

    subtype: u4 = 3
    reserved: u3 = 0
    echo: u1 = 0
    address_id: u8 = 0
    address: ip6 = field("::")
    port: u16 = 0
    hmac: u64 | None = field(when=("echo", 0))


class MPRemoveAddress(MPTCP):
    """Addresses, by their numbers, that are gone (section 3.4.2)."""

    subtype: u4 = 4
    reserved: u4 = 0
    address_ids: octets = b""


class MPPriority(MPTCP):
    """Makes this subflow a backup, or no backup (section 3.3.8)."""

    subtype: u4 = 5
    reserved: u3 = 0
    backup: u1 = 0


class MPFail(MPTCP):
    """Falls back to plain TCP from this data sequence number on (section 3.7)."""

    subtype: u4 = 6
    reserved: u12 = 0
    dsn: u64 = 0


class MPFastClose(MPTCP):
    """Closes the whole connection at once (section 3.5)."""

    subtype: u4 = 7
    reserved: u12 = 0
    receiver_key: u64 = 0


class MPReset(MPTCP):
    """Why a subflow is reset (section 3.6); T: it may work later."""

    subtype: u4 = 8
    flags: flags4 = field(0, bits="T W V U")
    reason: u8 = field(0, names=RESET_REASONS)


SHAPES: dict[int, dict[int, type[MPTCP]]] = {
    0: {2: MPCapable, 10: MPCapableSYNACK, 18: MPCapableACK, 20: MPCapableData, 22: MPCapableDataChecksum},
    1: {10: MPJoin, 14: MPJoinSYNACK, 22: MPJoinACK},
    3: {6: MPAddAddress, 14: MPAddAddress, 8: MPAddAddressPort, 16: MPAddAddressPort,
        18: MPAddAddress6, 26: MPAddAddress6, 20: MPAddAddress6Port, 28: MPAddAddress6Port},
    4: dict.fromkeys(range(2, 39), MPRemoveAddress),
    5: {1: MPPriority},
    6: {10: MPFail},
    7: {10: MPFastClose},
    8: {2: MPReset},
}  # fmt: skip
"""By subtype, and octets after the option's length."""
