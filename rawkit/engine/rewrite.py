"""Rewriting frames by the C engine: addresses, ports, tags, hop limits, checksums; anonymous addresses."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rawkit.engine.batch import FrameBatch
from rawkit.engine.native import check, ffi, lib

SRC: int = lib.RK_REWRITE_SRC
DST: int = lib.RK_REWRITE_DST

TAG_LEN = 4
"""Octets that a frame may grow by."""

LINKS: dict[int, int] = {
    1: lib.RK_LINK_ETHERNET,
    12: lib.RK_LINK_IP,
    14: lib.RK_LINK_IP,
    101: lib.RK_LINK_IP,
    228: lib.RK_LINK_IP,
    229: lib.RK_LINK_IP,
    0: lib.RK_LINK_NULL,
    108: lib.RK_LINK_NULL,
    113: lib.RK_LINK_SLL,
    276: lib.RK_LINK_SLL2,
}
"""LINKTYPE_ numbers of the frames that can be rewritten, and what C calls them."""

KEY_LEN: int = lib.RK_ANONYMOUS_KEY_LEN
_KNOWN = 8192  # addresses that are remembered; most captures have fewer


class KeptPrefix(NamedTuple):
    """Addresses that begin with the first `bits` of `prefix` keep these; with `whole` all of their bits."""

    prefix: bytes
    bits: int
    whole: bool = False


class Anonymiser:
    """Other addresses in place of addresses, by a key of KEY_LEN octets.

    Two IP addresses that share their first n bits, and no more, share their first n bits afterwards, and no
    more. MAC addresses keep the bits that say group and local. Addresses in `kept` keep their prefix, or
    stay; the longest prefix that an address has decides which.
    """

    def __init__(self, key: bytes, kept: Sequence[KeptPrefix] = ()) -> None:
        if len(key) != KEY_LEN:
            raise ValueError(f"anonymise: a key of {len(key)} octets; it has {KEY_LEN}")
        for prefix in kept:
            if len(prefix.prefix) not in (4, 16) or not 0 <= prefix.bits <= len(prefix.prefix) * 8:
                raise ValueError(f"anonymise: {prefix} is no prefix")
        self._known = ffi.new("struct rk_anonymous_known[]", _KNOWN)
        self._kept = ffi.new(
            "struct rk_anonymous_prefix[]",
            [
                {
                    "prefix": p.prefix.ljust(16, b"\0"),
                    "bits": p.bits,
                    "addr_len": len(p.prefix),
                    "whole": p.whole,
                }
                for p in kept
            ],
        )
        self.handle = ffi.new(
            "struct rk_anonymous *",
            {"kept": self._kept, "kept_n": len(kept), "known": self._known, "known_n": _KNOWN, "key": key},
        )

    def address(self, octets: bytes) -> bytes:
        """What stands in place of an address of 4 or 16 octets (IP), or of 6 (MAC).

        Raises:
            EngineError: it has another length (EINVAL).
        """
        address = bytearray(octets)
        with ffi.from_buffer("uint8_t[]", address, require_writable=True) as room:
            check(lib.rk_anonymous_address(self.handle, room, len(octets)), "anonymise an address")
        return bytes(address)


class PrefixRule(NamedTuple):
    """Addresses that begin with the first `from_bits` of `before` get the first `to_bits` of `after`.

    Both are 4 octets, or both 16. `ends` is SRC, DST, or their sum: whose addresses.
    """

    before: bytes
    from_bits: int
    after: bytes
    to_bits: int
    ends: int = SRC | DST


class Rewriter:
    """Rewrites frames from one batch into another; `changed` counts those that became different.

    Batches need a link type in LINKS. Tags and MAC addresses are those of Ethernet; other frames have none.

    Checksums are updated by what changed (RFC 1624), so good ones stay good and bad ones bad, also in
    fragments and in what ICMP errors quote. Transport checksums that the sender left to its network card
    are computed (`finished` counts them): that is said by the record or seen from the octets. With
    `checksums` all of a packet that is there as a whole are, except UDP's 0 over IPv4, which says that
    there is none.
    """

    def __init__(
        self,
        *,
        dst_mac: bytes | None = None,
        src_mac: bytes | None = None,
        vlan_remove: bool = False,
        vlan_add: tuple[int, int] | None = None,
        prefixes: Sequence[PrefixRule] = (),
        ports: Mapping[int, int] | None = None,
        hop_limit: int | None = None,
        dscp: int | None = None,
        checksums: bool = False,
        anonymous: Anonymiser | None = None,
        keep_payload: bool = False,
        cut: bool = False,
    ) -> None:
        """`vlan_add` is a tag's protocol (EtherType) and its 16 bits of control information.

        Of `prefixes` the first that fits an address counts. `ports` are numbers of TCP, UDP, SCTP, DCCP and
        UDP-Lite, at both ends.

        `anonymous` maps all addresses, in place of `prefixes` and `ports`, and puts zeros in place of what
        is not understood and of payloads. With `keep_payload` what TCP, UDP, SCTP and the like and ICMP echo
        carry stays; with `cut` frames end where nothing but zeros would follow.

        Raises:
            ValueError: a number or an address that its field cannot hold.
        """
        self.changed = 0
        self.finished = 0
        wanted = (
            (lib.RK_REWRITE_DST_MAC, dst_mac is not None),
            (lib.RK_REWRITE_SRC_MAC, src_mac is not None),
            (lib.RK_REWRITE_VLAN_REMOVE, vlan_remove),
            (lib.RK_REWRITE_VLAN_ADD, vlan_add is not None),
            (lib.RK_REWRITE_HOP_LIMIT, hop_limit is not None),
            (lib.RK_REWRITE_DSCP, dscp is not None),
            (lib.RK_REWRITE_CHECKSUMS, checksums),
            (lib.RK_REWRITE_KEEP_PAYLOAD, keep_payload),
            (lib.RK_REWRITE_CUT, cut),
        )
        tpid, tci = vlan_add or (0, 0)
        for what, value, most in (
            ("tag protocol", tpid, 0xFFFF),
            ("tag control information", tci, 0xFFFF),
            ("hop limit", hop_limit or 0, 255),
            ("DSCP", dscp or 0, 63),
        ):
            if not 0 <= value <= most:
                raise ValueError(f"rewrite: {what} {value}; possible are 0..{most}")
        if anonymous is not None and (prefixes or ports):
            raise ValueError("rewrite: addresses are anonymised, or mapped by prefixes and ports, not both")
        for mac in (dst_mac, src_mac):
            if mac is not None and len(mac) != 6:
                raise ValueError(f"rewrite: a MAC address of {len(mac)} octets")
        self._prefixes = ffi.new("struct rk_rewrite_prefix[]", [_prefix(rule) for rule in prefixes])
        self._ports = ffi.NULL
        if ports:
            self._table = array("H", range(65536))
            for port, becomes in ports.items():
                if not (0 <= port <= 65535 and 0 <= becomes <= 65535):
                    raise ValueError(f"rewrite: port {port} to {becomes}; possible are 0..65535")
                self._table[port] = becomes
            self._ports = ffi.from_buffer("uint16_t[]", self._table)
        self._anonymous = anonymous
        self._rules = ffi.new(
            "struct rk_rewrite *",
            {
                "prefixes": self._prefixes,
                "ports": self._ports,
                "anonymous": anonymous.handle if anonymous is not None else ffi.NULL,
                "prefixes_n": len(prefixes),
                "flags": sum(flag for flag, is_wanted in wanted if is_wanted),
                "vlan_tpid": tpid,
                "vlan_tci": tci,
                "hop_limit": hop_limit or 0,
                "dscp": dscp or 0,
                "dst_mac": dst_mac or bytes(6),
                "src_mac": src_mac or bytes(6),
            },
        )
        self._counters = ffi.new("struct rk_rewrite_counters *")

    def set_prefixes(self, prefixes: Sequence[PrefixRule]) -> None:
        """From now on these rules for addresses, in place of those there were.

        Raises:
            ValueError: as when it was made.
        """
        self._prefixes = ffi.new("struct rk_rewrite_prefix[]", [_prefix(rule) for rule in prefixes])
        self._rules.prefixes, self._rules.prefixes_n = self._prefixes, len(prefixes)

    def append(self, batch: FrameBatch, out: FrameBatch, first: int = 0, n: int | None = None) -> int:
        """Append frames [first, first + n) (n None: all that follow), rewritten, to `out`.

        Returns how many fitted there; each needs TAG_LEN octets more than it has.

        Raises:
            EngineError: the range lies outside the batch (EINVAL).
            ValueError: the batch's link type is not in LINKS.
        """
        if batch.linktype not in LINKS:
            raise ValueError(f"rewrite: frames of link type {batch.linktype} are not understood")
        self._rules.link = LINKS[batch.linktype]
        out.linktype = batch.linktype
        n = len(batch) - first if n is None else n
        done = lib.rk_rewrite(self._rules, batch.handle, first, n, out.handle, self._counters)
        self.changed, self.finished = self._counters.changed, self._counters.finished
        return check(done, "rewrite")


def _prefix(rule: PrefixRule) -> dict[str, object]:
    addr_len = len(rule.before)
    most = addr_len * 8
    if addr_len not in (4, 16) or len(rule.after) != addr_len:
        raise ValueError(f"rewrite: addresses of {addr_len} and {len(rule.after)} octets")
    if not (0 <= rule.from_bits <= most and 0 <= rule.to_bits <= most):
        raise ValueError(
            f"rewrite: prefixes of {rule.from_bits} and {rule.to_bits} bits; possible are 0..{most}"
        )
    return {
        "from": rule.before.ljust(16, b"\0"),
        "to": rule.after.ljust(16, b"\0"),
        "from_bits": rule.from_bits,
        "to_bits": rule.to_bits,
        "addr_len": addr_len,
        "ends": rule.ends,
    }
