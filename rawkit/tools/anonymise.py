"""Anonymising captures: other addresses in place of addresses, by a key, and nothing else that tells who.

How addresses are mapped, and where they are looked for: `rawkit.engine.rewrite`. What pcapng files say beside
their packets is gone through here.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from rawkit.engine.rewrite import KEY_LEN, Anonymiser, KeptPrefix, Rewriter
from rawkit.pcap import blocks as b

Payload = Literal["zero", "keep", "cut"]
Network = IPv4Network | IPv6Network

WHOLE: tuple[Network, ...] = tuple(
    map(
        ip_network,
        ("0.0.0.0", "255.255.255.255", "127.0.0.0/8", "224.0.0.0/24", "::", "::1", "ff00::/12"),
    )
)
"""What stays as it is: addresses of no host or of this one, and groups that IANA has assigned."""
PREFIXES: tuple[Network, ...] = tuple(
    map(ip_network, ("224.0.0.0/4", "169.254.0.0/16", "fe80::/64", "ff00::/8", "ff02::1:ff00:0/104"))
)
"""Prefixes that addresses in them keep: groups stay groups, link-local addresses link-local."""

# Options of packets that tell nothing about who and where: flags, drop counts, numbers of packets and queues.
PACKET_OPTIONS = (b.EPB_FLAGS, b.EPB_DROPCOUNT, 5, 6)

_IF_IPV4, _IF_IPV6, _IF_MAC = 4, 5, b.IF_MACADDR
_SECTION_OPTIONS = (b.SHB_HARDWARE, b.SHB_OS, b.SHB_USERAPPL)
_INTERFACE_TEXTS = (b.IF_NAME, b.IF_DESCRIPTION, b.IF_OS, b.IF_HARDWARE)
_INTERFACE_NUMBERS = (8, b.IF_TSRESOL, 10, b.IF_FCSLEN, b.IF_TSOFFSET)  # speed, time zone
_STATISTICS = range(b.ISB_STARTTIME, b.ISB_USRDELIV + 1)
# What might be an address in a text: better one text too few.
_ADDRESS = re.compile(rb"(\d+\.){3}\d+|[0-9A-Fa-f]*:[0-9A-Fa-f]*:|([0-9A-Fa-f]{2}-){2}")


@dataclass(frozen=True)
class Anonymise:
    """How a capture is made anonymous.

    The same `key` (text or octets, None for a random one that nobody knows) makes the same address of an
    address, in every file. Addresses in `keep` keep these prefixes, besides PREFIXES. `payload` is what
    TCP, UDP, SCTP and ICMP echo carry: zeros in its place ("zero"), left as it is ("keep"), or the frames
    are cut before it ("cut").
    """

    key: str | bytes | None = None
    keep: tuple[Network, ...] = ()
    payload: Payload = "zero"

    def editor(self) -> AnonymisingEditor:
        """What does it; it counts from nothing, and with a random key differs from the next."""
        return AnonymisingEditor(self)


class AnonymisingEditor:
    """Anonymises frames (`rewriter`) and blocks of pcapng (`block`)."""

    def __init__(self, how: Anonymise) -> None:
        secret = os.urandom(KEY_LEN) if how.key is None else how.key
        if isinstance(secret, str):
            secret = secret.encode("utf-8", "surrogateescape")
        key = hashlib.blake2b(secret, digest_size=KEY_LEN, person=b"rawkit anonymise").digest()
        kept = [_kept(network, True) for network in WHOLE]
        kept += [_kept(network, False) for network in (*PREFIXES, *how.keep)]
        self.anonymiser = Anonymiser(key, kept)
        self.rewriter = Rewriter(
            anonymous=self.anonymiser, keep_payload=how.payload == "keep", cut=how.payload == "cut"
        )
        self.left_out: dict[str, int] = {}
        """How many blocks, and options in those that stay, were left out, by what they are called."""

    def block(self, block: b.Block) -> bytes:
        """What stands in place of a block that holds no packet; b"" for nothing.

        Sections, interfaces and statistics stay with those of their options that tell numbers, and with texts
        that hold nothing like an address; the addresses of interfaces are mapped. Names, secrets, comments,
        filters and all that is not understood go.
        """
        if block.kind not in (b.SHB, b.IDB, b.ISB):
            self._drop(block.name)
            return b""
        start = b.MIN_BLOCK_LEN[block.kind] - 4
        try:
            found: Sequence[tuple[int, bytes]] = block.options
        except b.DamagedOptions:
            found = ()
            self._drop("damaged options")
        kept = b"".join(
            struct.pack(block.order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
            for code, value in self._options(block.kind, found)
        )
        if kept:
            kept += bytes(4)
        length = struct.pack(block.order + "I", start + len(kept) + 4)
        return block.octets[:4] + length + block.octets[8:start] + kept + length

    def _options(self, kind: int, found: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        texts = {b.SHB: _SECTION_OPTIONS, b.IDB: _INTERFACE_TEXTS}.get(kind, ())
        numbers = {b.IDB: _INTERFACE_NUMBERS, b.ISB: tuple(_STATISTICS)}.get(kind, ())
        map_address = self.anonymiser.address
        for code, value in found:
            if (code in texts and not _ADDRESS.search(value)) or code in numbers:
                yield code, value
            elif kind == b.IDB and code == _IF_IPV4 and len(value) == 8:
                yield code, map_address(value[:4]) + value[4:]
            elif kind == b.IDB and code == _IF_IPV6 and len(value) == 17:
                yield code, map_address(value[:16]) + value[16:]
            elif kind == b.IDB and code == _IF_MAC and len(value) == 6:
                yield code, map_address(value)
            else:
                self._drop("comment" if code == b.OPT_COMMENT else "other option")

    def _drop(self, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + 1


def _kept(network: Network, whole: bool) -> KeptPrefix:
    return KeptPrefix(network.network_address.packed, network.prefixlen, whole)
