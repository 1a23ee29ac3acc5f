"""What UDP probes say: requests that servers of a port's usual protocols answer, from their specifications.

Several for a port are sent in turn. A port without any gets an empty datagram.
"""

from __future__ import annotations

import struct

from rawkit.addr import parse_ports

_ID = 0x726B  # "rk"


def _dns(name: str, kind: int, flags: int = 0x0100, cls: int = 1) -> bytes:
    """A question (RFC 1035 section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return struct.pack("!6H", _ID, flags, 1, 0, 0, 0) + labels + struct.pack("!xHH", kind, cls)


def _rpc(program: int, version: int) -> bytes:
    """A call of procedure 0, which does nothing (RFC 5531 section 9)."""
    return struct.pack("!10I", _ID, 0, 2, program, version, 0, 0, 0, 0, 0)


def _ber(tag: int, *parts: bytes) -> bytes:
    """A value of less than 128 octets (X.690 section 8.1)."""
    content = b"".join(parts)
    return bytes((tag, len(content))) + content


def _integer(value: int) -> bytes:
    return _ber(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


_NOTHING = _ber(4)  # an empty octet string


def _snmp() -> tuple[bytes, ...]:
    """Requests for sysDescr.0 of community "public" (RFC 1157, RFC 3416), for an engine's name (RFC 3414)."""
    oid = _ber(6, bytes((0x2B, 6, 1, 2, 1, 1, 1, 0)))
    head = _integer(_ID), _integer(0), _integer(0)
    get = _ber(0xA0, *head, _ber(0x30, _ber(0x30, oid, _ber(5))))
    messages = [_ber(0x30, _integer(version), _ber(4, b"public"), get) for version in (1, 0)]
    engine = _ber(4, _ber(0x30, _NOTHING, _integer(0), _integer(0), _NOTHING, _NOTHING, _NOTHING))
    model = _ber(0x30, _integer(_ID), _integer(65507), _ber(4, b"\4"), _integer(3))
    scoped = _ber(0x30, _NOTHING, _NOTHING, _ber(0xA0, *head, _ber(0x30)))
    return (*messages, _ber(0x30, _integer(3), model, engine, scoped))


def _cldap() -> bytes:
    """A search for what the root has (RFC 4511 section 4.5.1)."""
    scope = _ber(10, b"\0"), _ber(10, b"\0"), _integer(0), _integer(0), _ber(1, b"\0")
    search = _ber(0x63, _NOTHING, *scope, _ber(0x87, b"objectclass"), _ber(0x30))
    return _ber(0x30, _integer(1), search)


def _ike() -> bytes:
    """The beginning of a main mode exchange: one proposal, 3DES with SHA-1 and a shared key (RFC 2409)."""
    wanted = ((1, 5), (2, 2), (3, 1), (4, 2), (11, 1), (12, 28800))
    attributes = b"".join(struct.pack("!HH", 0x8000 | kind, value) for kind, value in wanted)
    transform = struct.pack("!BBHBBH", 0, 0, 8 + len(attributes), 1, 1, 0) + attributes
    proposal = struct.pack("!BBHBBBB", 0, 0, 8 + len(transform), 1, 1, 0, 1) + transform
    association = struct.pack("!BBHII", 0, 0, 12 + len(proposal), 1, 1) + proposal
    header = struct.pack("!8s8xBBBBII", b"rawkit01", 1, 0x10, 2, 0, 0, 28 + len(association))
    return header + association


def _sip() -> bytes:
    """OPTIONS (RFC 3261 section 11)."""
    return (
        b"OPTIONS sip:nobody@localhost SIP/2.0\r\nVia: SIP/2.0/UDP localhost;branch=z9hG4bK-rawkit;rport\r\n"
        b"Max-Forwards: 70\r\nFrom: <sip:nobody@localhost>;tag=rk\r\nTo: <sip:nobody@localhost>\r\n"
        b"Call-ID: rawkit\r\nCSeq: 1 OPTIONS\r\nContact: <sip:nobody@localhost>\r\nContent-Length: 0\r\n\r\n"
    )


# A long header of a version that is nobody's, which servers answer with those that they have (RFC 9000
# section 6), padded to the length of an Initial packet.
_QUIC = (b"\xc0\x1a\x1a\x1a\x1a\x08rawkit01\x08rawkit02").ljust(1200, b"\0")
_STUN = struct.pack("!HHI12s", 1, 0, 0x2112A442, b"rawkit-probe")  # RFC 8489 section 5
_SSDP = b"\r\n".join(
    (
        b"M-SEARCH * HTTP/1.1",
        b"HOST: 239.255.255.250:1900",
        b'MAN: "ssdp:discover"',
        b"MX: 1",
        b"ST: ssdp:all",
        b"",
        b"",
    )
)
_NBSTAT = struct.pack("!6H", _ID, 0, 1, 0, 0, 0) + b"\x20CK" + b"A" * 30 + struct.pack("!xHH", 0x21, 1)
_NTP = b"\xe3" + bytes(47)  # RFC 5905: version 4, a client

PAYLOADS: dict[int, tuple[bytes, ...]] = {
    7: (b"rawkit",),
    13: (b"\r\n",),
    17: (b"\r\n",),
    19: (b"\r\n",),
    37: (b"\r\n",),
    53: (_dns("", 2), _dns("version.bind", 16, cls=3)),
    69: (b"\0\1rawkit\0octet\0",),  # RFC 1350
    111: (_rpc(100000, 2),),
    123: (_NTP, b"\x16\x02\0\1" + bytes(8)),  # and a control message: read status (RFC 9327)
    137: (_NBSTAT,),
    161: _snmp(),
    177: (b"\0\1\0\2\0\1\0",),  # XDMCP: a query
    389: (_cldap(),),
    443: (_QUIC,),
    500: (_ike(),),
    520: (b"\1\2" + bytes(17) + b"\0\0\0\0\x10",),  # RFC 2453 section 3.9.1
    623: (b"\6\0\xff\6\0\0\x11\xbe\x80\0\0\0",),  # RMCP: an ASF presence ping
    1194: (b"\x38rawkit01\0\0\0\0\0",),  # OpenVPN: a client's hard reset
    1434: (b"\2", b"\3"),  # MC-SQLR
    1900: (_SSDP,),
    2049: (_rpc(100003, 3),),
    3478: (_STUN,),
    4500: (b"\0\0\0\0" + _ike(),),  # RFC 3948 section 2.2
    5060: (_sip(),),
    5351: (b"\0\0",),  # RFC 6886 section 3.2
    5353: (_dns("_services._dns-sd._udp.local", 12, flags=0),),
    5355: (_dns("rawkit", 255, flags=0),),
    5683: (b"\x40\x01\x72\x6b\xbb.well-known\x04core",),  # RFC 7252
    8443: (_QUIC,),
    11211: (b"\x72\x6b\0\0\0\1\0\0version\r\n",),
    27015: (b"\xff\xff\xff\xffTSource Engine Query\0",),
    47808: (
        b"\x81\x0a\0\x11\1\4\0\5\1\x0c\x0c\2\x3f\xff\xff\x19\x4b",
    ),  # BACnet: read the object's identifier
}

COMMON_UDP_PORTS = parse_ports(
    "7,9,13,17,19,37,42,49,53,67-69,80,88,111,120,123,135-139,158,161,162,177,389,427,443,445,464,497,500,502,"
    "514,515,518,520,521,546,547,593,623,626,631,749,853,902,989,990,996-999,1023,1025-1030,1194,1433,1434,1645,"
    "1646,1701,1718,1719,1812,1813,1883,1900,2000,2048,2049,2152,2222,3283,3391,3478,3702,4500,5000,5004,5060,"
    "5093,5351,5353,5355,5632,5683,6481,10000,11211,17185,20031,27015,30718,31337,32768,33434,47808,49152,51820"
)
"""Ports that UDP services commonly listen on, for scans that name none."""


def payload(port: int, number: int, otherwise: bytes = b"") -> bytes:
    """What probe `number` (from 0) says to a port; `otherwise` where nothing special is known of it."""
    known = PAYLOADS.get(port, (otherwise,))
    return known[number % len(known)]
