"""How long a packet may be on the way to a host: the path MTU (RFC 1191, RFC 8201, RFC 4821), by asking.

Echo requests that nobody may fragment go out at the length of the link's MTU. A router that cannot pass one
on may say how long it may be, which is tried next; routers that drop it and say nothing (black holes) are
found by halving between what came back and what did not.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address

from rawkit.addr import IPAddress, Resolver
from rawkit.errors import EngineError
from rawkit.tools.exchange import Answer, Exchange, ExchangeConfig
from rawkit.tools.ping import resolve_targets
from rawkit.tools.pinger import PingConfig
from rawkit.units import parse_duration
from rawkit.wire import ICMP, ICMPEcho, ICMPv6, ICMPv6Echo, IPv4, IPv6, Packet

LEAST = {4: 68, 6: 1280}
"""What every link carries (RFC 791 section 3.2, RFC 8200 section 5)."""
FITS, TOO_BIG, SILENT = "fits", "too big", "silent"
_HEADERS = {4: 28, 6: 48}


@dataclass(frozen=True, slots=True)
class MTUStep:
    """A packet of `size` octets, IP header included, that FITS (an answer came in `rtt_ns`), was TOO_BIG for
    `reporter`, whose next link carries `mtu` octets (0: it did not say; "" is this host), or got no answer
    (SILENT)."""

    size: int
    outcome: str
    rtt_ns: int | None = None
    reporter: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class PathMTU:
    """The path MTU in octets, 0 if the host answers nothing at all. `link_mtu` is that of the first link,
    `reporter` the router that said so, "" where none did, and `black_hole` whether longer packets vanish
    without a word."""

    target: str
    address: str
    mtu: int
    link_mtu: int
    reporter: str
    black_hole: bool
    steps: tuple[MTUStep, ...]


class MTUSearch:
    """The search without I/O: which size to try, given what came of the ones before."""

    def __init__(self, version: int, link_mtu: int) -> None:
        self.low = 0
        """The longest that came back."""
        self.high = link_mtu
        """The longest that may."""
        self._least = min(LEAST[version], link_mtu)
        self._next = link_mtu

    def size(self) -> int | None:
        """The size to try now, None when the search is over."""
        return self._next if self.low < self.high and self._next > self.low else None

    def took(self, step: MTUStep) -> None:
        if step.outcome == FITS:
            self.low = max(self.low, step.size)
        else:
            self.high = min(self.high, step.size - 1)
        if step.outcome == TOO_BIG and max(self.low, self._least) <= step.mtu <= self.high:
            self._next = self.high = step.mtu  # links further on may be narrower, but this one is not wider
        elif self.low < self._least:
            self._next = self._least if step.size != self._least else 0
        else:
            self._next = (self.low + self.high + 1) // 2


def path_mtu(
    target: str | IPAddress,
    *,
    timeout: float = 1.0,
    retries: int = 2,
    family: int = 0,
    interface: str = "",
    resolve: Resolver | None = None,
) -> PathMTU:
    """The path MTU to a host that answers echo requests. Silence is asked again, `retries` times.

    Raises: `TargetError`, `NoRoute`, `UnknownInterface`; `PermissionDenied` without CAP_NET_RAW; ValueError
    for a number that makes no sense.
    """
    search = PathMTUSearch(
        target, timeout=timeout, retries=retries, family=family, interface=interface, resolve=resolve
    )
    for _ in search:
        pass
    return search.result


class PathMTUSearch:
    """As `path_mtu`, but iterate over it for each `MTUStep`; `result` is what is known so far."""

    def __init__(
        self,
        target: str | IPAddress,
        *,
        timeout: float = 1.0,
        retries: int = 2,
        family: int = 0,
        interface: str = "",
        resolve: Resolver | None = None,
    ) -> None:
        from rawkit import net

        self._config = ExchangeConfig(parse_duration(timeout), retries)
        config = PingConfig(family=family, interface=interface)
        self.target, *others = resolve_targets(target, config, resolve)
        if others:
            raise ValueError(f"target {target}: it stands for {len(others) + 1} addresses, one is asked")
        self._interface = interface or None
        way = net.route(self.target.address, via=self._interface)
        longest = 65535 + (40 if self.target.address.version == 6 else 0)
        self.link_mtu = min(net.interface(way.ifindex).mtu, longest)
        self._search = MTUSearch(self.target.address.version, self.link_mtu)
        self._id = secrets.randbits(16)
        self._steps: list[MTUStep] = []

    @property
    def result(self) -> PathMTU:
        steps, mtu = tuple(self._steps), self._search.low
        told = next((step for step in reversed(steps) if step.outcome == TOO_BIG and step.mtu == mtu), None)
        lost = any(step.outcome == SILENT and step.size > mtu for step in steps)
        return PathMTU(
            self.target.name,
            str(self.target.address),
            mtu,
            self.link_mtu,
            told.reporter if told else "",
            bool(mtu) and lost,
            steps,
        )

    def __iter__(self) -> Iterator[MTUStep]:
        while (size := self._search.size()) is not None:
            step = self._try(size)
            self._steps.append(step)
            self._search.took(step)
            yield step

    def _try(self, size: int) -> MTUStep:
        with Exchange([self._packet(size)], self._config, interface=self._interface) as session:
            for event in session:
                if isinstance(event, Answer):
                    return _step(size, event)
            error = session.outcomes[0].error
        if error is None:
            return MTUStep(size, SILENT)
        if error.errno != 90:  # EMSGSIZE: longer than this host's own link
            raise EngineError(error.errno or 0, error.operation, error.subject)
        return MTUStep(size, TOO_BIG)

    def _packet(self, size: int) -> Packet:
        address, seq = self.target.address, len(self._steps) + 1
        data = secrets.token_bytes(8).ljust(size - _HEADERS[address.version], b"\0")
        data = data[: size - _HEADERS[address.version]]
        if isinstance(address, IPv6Address):
            return IPv6(dst=address) / ICMPv6Echo(id=self._id, seq=seq) / data
        return IPv4(dst=address, flags="DF") / ICMPEcho(id=self._id, seq=seq) / data


def _step(size: int, answer: Answer) -> MTUStep:
    error = answer.get(ICMP) or answer.get(ICMPv6)
    ip = answer.get(IPv4) or answer.get(IPv6)
    kinds = {4: (3, 4), 6: (2, 0)}
    if error is None or ip is None:
        return MTUStep(size, FITS, answer.rtt_ns)
    if (error.type, error.code) == kinds[ip.version]:
        return MTUStep(size, TOO_BIG, None, str(ip.src), int(getattr(error, "mtu", 0)))
    if error.type in (0, 129):
        return MTUStep(size, FITS, answer.rtt_ns)
    return MTUStep(size, SILENT, None, str(ip.src))
