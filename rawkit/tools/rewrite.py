"""What is changed in frames on their way, as people say it: addresses, ports, tags, hop limits.

How it is done, and which checksums follow: `rawkit.engine.rewrite`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from rawkit.addr import MAC
from rawkit.engine.rewrite import DST, SRC, PrefixRule, Rewriter
from rawkit.errors import TargetError

Network = IPv4Network | IPv6Network
DOT1Q = 0x8100


@dataclass(frozen=True)
class PrefixMap:
    """Addresses in `before` get the prefix of `after` and keep the bits behind it, at the ends told.

    With `counts` each pass of a replay has its own: `after`, then the network behind it, and so on.
    """

    before: Network
    after: Network
    at_source: bool = True
    at_destination: bool = True
    counts: bool = False

    def __post_init__(self) -> None:
        if self.before.version != self.after.version:
            raise TargetError(f"{self.before}={self.after}: one is IPv4, the other IPv6")

    def rule(self, number: int = 0) -> PrefixRule:
        """The same for C, in pass `number`. Behind the last network comes the first one."""
        before, after = self.before, self.after
        to = int(after.network_address)
        if self.counts:
            to = (to + number * after.num_addresses) % (1 << after.max_prefixlen)
        ends = SRC * self.at_source | DST * self.at_destination
        return PrefixRule(
            before.network_address.packed,
            before.prefixlen,
            to.to_bytes(len(before.network_address.packed), "big"),
            after.prefixlen,
            ends,
        )


@dataclass(frozen=True)
class Tag:
    """A VLAN tag to be put in front: number 0..4095, priority 0..7, and its EtherType."""

    vid: int
    priority: int = 0
    ethertype: int = DOT1Q

    def __post_init__(self) -> None:
        if not (0 <= self.vid <= 4095 and 0 <= self.priority <= 7 and 0 <= self.ethertype <= 0xFFFF):
            raise TargetError(
                f"VLAN {self.vid}, priority {self.priority}, EtherType {self.ethertype:#06x}; "
                "possible are 0..4095, 0..7, 0..0xffff"
            )


@dataclass(frozen=True)
class Rewrite:
    """What is to become different; `rewriter()` is what does it.

    Of `prefixes` the first that fits an address counts. `ports` maps ports of TCP, UDP, SCTP, DCCP and
    UDP-Lite at both ends. `remove_tag` takes the outermost VLAN tag off, before `add_tag` puts another in
    front. `fix_checksums` computes all checksums, where else good ones stay good and bad ones bad.
    """

    dst_mac: MAC | None = None
    src_mac: MAC | None = None
    remove_tag: bool = False
    add_tag: Tag | None = None
    prefixes: tuple[PrefixMap, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    ttl: int | None = None
    dscp: int | None = None
    fix_checksums: bool = False

    def rewriter(self) -> Rewriter:
        """One that counts from nothing.

        Raises:
            ValueError: a port, hop limit or DSCP that is none.
        """
        tag = self.add_tag
        return Rewriter(
            dst_mac=bytes(self.dst_mac) if self.dst_mac else None,
            src_mac=bytes(self.src_mac) if self.src_mac else None,
            vlan_remove=self.remove_tag,
            vlan_add=(tag.ethertype, tag.priority << 13 | tag.vid) if tag else None,
            prefixes=self.rules(),
            ports=dict(self.ports),
            hop_limit=self.ttl,
            dscp=self.dscp,
            checksums=self.fix_checksums,
        )

    def rules(self, number: int = 0) -> list[PrefixRule]:
        """The prefixes as they are in pass `number`, from 0."""
        return [prefix.rule(number) for prefix in self.prefixes]

    @property
    def varies(self) -> bool:
        """Whether each pass is different."""
        return any(prefix.counts for prefix in self.prefixes)

    @property
    def is_wanted(self) -> bool:
        """Whether anything is to become different, besides unfinished checksums."""
        return self != Rewrite()


def parse_prefix_map(text: str, *, at_source: bool = True, at_destination: bool = True) -> PrefixMap:
    """ "10.0.0.0/8=192.168.0.0/16"; an address without a length is one address.

    Raises:
        TargetError: not two networks of one family.
    """
    before, equals, after = text.partition("=")
    try:
        if not equals:
            raise ValueError("two prefixes with = between them are needed")
        return PrefixMap(ip_network(before.strip()), ip_network(after.strip()), at_source, at_destination)
    except ValueError as error:
        raise TargetError(f"prefix map {text!r}: {error}") from None


def parse_port_map(text: str) -> tuple[tuple[int, int], ...]:
    """ "80=8080", or "8000-8009=9000", where the first becomes 9000, the second 9001, and so on.

    Raises:
        TargetError: not numbers from 0 to 65535.
    """
    before, equals, after = text.partition("=")
    low, _, high = before.partition("-")
    try:
        if not equals:
            raise ValueError("two ports with = between them are needed")
        first, last, new = int(low), int(high or low), int(after)
        if not (0 <= first <= last <= 65535 and 0 <= new <= 65535 - (last - first)):
            raise ValueError("ports are 0..65535")
    except ValueError as error:
        raise TargetError(f"port map {text!r}: {error}") from None
    return tuple((first + i, new + i) for i in range(last - first + 1))


def parse_tag(text: str) -> Tag:
    """ "100", or "100:5" with a priority, or "100:5:0x88a8" with an EtherType too.

    Raises:
        TargetError: not such numbers.
    """
    try:
        parts = text.split(":")
        vid, priority, ethertype = parts + ["0", "0x8100"][len(parts) - 1 :]
        return Tag(int(vid), int(priority), int(ethertype, 0))
    except ValueError:
        raise TargetError(f"VLAN tag {text!r}: say ID, ID:PRIORITY or ID:PRIORITY:ETHERTYPE") from None
