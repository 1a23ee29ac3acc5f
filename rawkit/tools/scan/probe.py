"""What a scan asks a port: the class that probes are made of, also those of other distributions.

    [project.entry-points."rawkit.probes"]
    courier = "courier.probe:CourierProbe"

makes `rawkit scan --type courier` known. The class is imported when its name is first asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rawkit.addr import IPAddress
from rawkit.errors import RawkitError
from rawkit.tools.scan.config import CLOSED, FILTERED, OPEN, OPEN_FILTERED
from rawkit.tools.scan.icmp import icmp_reason
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet

GROUP = "rawkit.probes"

_PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A port that a probe is for, and where the probe comes from.

    `token` is 64 bits that nobody can guess, others for each port, the same each time that one is asked.
    `contact` is what the user of the scan wants to be said of it.
    """

    address: IPAddress
    port: int
    source: IPAddress
    source_port: int
    token: int
    contact: str = ""

    def ip(self, protocol: int | None = None) -> IPv4 | IPv6:
        """An IP header from here to there; `protocol` where what follows does not tell it."""
        if self.address.version == 4:
            header = IPv4(src=self.source.packed, dst=self.address.packed)
            return header if protocol is None else header.replace(protocol=protocol)
        header6 = IPv6(src=self.source.packed, dst=self.address.packed)
        return header6 if protocol is None else header6.replace(next_header=protocol)


class Probe(ABC):
    """A kind of probe: what it sends to a port, and what an answer makes of that port.

    A subclass has to have `name` (the scan's kind) and `request`; the rest has defaults that suit protocols
    with ports, whose headers `rawkit.wire` knows:

        class CourierProbe(Probe):
            name = "courier"
            protocol = "udp"
            ports = (7777,)

            def request(self, to):
                return to.ip() / UDP(sport=to.source_port, dport=to.port) / b"HELLO"

    One object makes the probes of one scan.
    """

    name: ClassVar[str]
    """What `--type` calls it."""
    protocol: ClassVar[str]
    """What results call it: the "udp" of 53/udp."""
    ports: ClassVar[tuple[int, ...]] = ()
    """The ports of a scan that names none; empty: those of TCP services."""
    silent: ClassVar[str] = OPEN_FILTERED
    """The state of a port that gives no answer."""
    exact: ClassVar[bool] = False
    """Whether an answer proves that its sender has seen the request, as those that bear the token do. Open
    ports of others are asked once more."""
    filter: ClassVar[str] = "dst port {port}"
    """A tcpdump expression for answers other than ICMP errors; {port} is the source port of the probes."""

    @abstractmethod
    def request(self, to: ProbeTarget) -> Packet:
        """The probe, an IP packet; the same for the same target. Its IP header is best made by `to.ip()`."""

    def port_of(self, layers: Sequence[Header], payload: bytes, quoted: bool) -> int | None:
        """The port that an answer with these headers, from IP on, comes from, or that a `quoted` request was
        for; None: it is neither. Of a quoted header the beginning may be all there is, and is payload then.
        """
        if layers[1:]:
            port = getattr(layers[1], "dport" if quoted else "sport", None)
            return port if isinstance(port, int) else None
        return int.from_bytes(payload[2:4], "big") if quoted and len(payload) >= 4 else None

    def is_answer(self, packet: Packet, request: Packet) -> bool:
        """Whether a packet from the target answers the request, or an ICMP error quotes it."""
        return packet.answers(request)

    def verdict(self, packet: Packet) -> tuple[str, str]:
        """State and reason, of an answer that is no ICMP error."""
        return OPEN, f"{self.protocol}-response"

    def verdict_of_error(self, version: int, type: int, code: int, by_target: bool) -> tuple[str, str]:
        """State and reason, of an ICMP error; `by_target`: the target itself has sent it.

        Of itself a target says "port unreachable" where nobody listens (RFC 1122 section 3.2.2.1).
        """
        closed = by_target and (type, code) == _PORT_UNREACHABLE[version]
        return CLOSED if closed else FILTERED, icmp_reason(version, type, code)


def find_probe(name: str) -> Probe | None:
    """The probe of a name, rawkit's own or that of an entry point; None if there is none.

    Raises RawkitError for an entry point that cannot be used, or a name that two of them have.
    """
    from rawkit.tools.scan.probes import PROBES

    if own := PROBES.get(name):
        return own()
    found = [point for point in _entry_points() if point.name == name]
    if not found:
        return None
    if len({point.value for point in found}) > 1:
        raise RawkitError(f"two probes are called {name!r}: {' and '.join(map(_text, found))}")
    try:
        kind = found[0].load()
    except Exception as error:
        raise RawkitError(f"probe {_text(found[0])} cannot be used: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, Probe)):
        raise RawkitError(f"probe {_text(found[0])} cannot be used: it is no class derived from Probe")
    if getattr(kind, "name", None) != name:
        raise RawkitError(f"probe {_text(found[0])} cannot be used: its class has another name")
    return kind()


def probe_names() -> list[str]:
    """The names of all probes of other distributions."""
    return sorted({point.name for point in _entry_points()})


def _entry_points() -> list[Any]:
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def _text(point: Any) -> str:
    name = getattr(point.dist, "name", None)
    return f"{point.name} = {point.value}" + (f" of the distribution {name}" if name else "")
