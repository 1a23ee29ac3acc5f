"""Rewriting frames by the C engine: addresses, ports, VLAN tags, hop limits, with their checksums."""

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
    """Rewrites Ethernet frames from one batch into another; `changed` counts those that became different.

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
    ) -> None:
        """`vlan_add` is a tag's protocol (EtherType) and its 16 bits of control information.

        Of `prefixes` the first that fits an address counts. `ports` are numbers of TCP, UDP, SCTP, DCCP and
        UDP-Lite, at both ends.

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
        self._rules = ffi.new(
            "struct rk_rewrite *",
            {
                "prefixes": self._prefixes,
                "ports": self._ports,
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
        """
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
