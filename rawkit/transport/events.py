"""What crosses between an endpoint and whatever drives it: events go in, actions come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from rawkit.wire.header import Header

# ---- where packets travel ------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Path:
    """One way between two addresses; an endpoint may have several.

    `mtu` counts the octets of an IP packet, of which the headers below the transport's take `overhead`.
    """

    local: str
    remote: str
    mtu: int = 1500
    overhead: int = 20
    lower: Header | None = None
    """The IP header of packets that leave here, for checksums over a pseudo-header."""
    lower_back: Header | None = None
    """The IP header of packets that arrive."""
    local_port: int = 0
    """What a header's `src_port` is to be on packets that leave here (or its `conn_id`); 0 without ports."""
    remote_port: int = 0

    @property
    def room(self) -> int:
        """Octets of transport header and payload that fit a packet."""
        return self.mtu - self.overhead

    def __repr__(self) -> str:
        return f"Path({self.local} > {self.remote})"


# ---- events: what happens to an endpoint -----------------------------------------------------------

Role: TypeAlias = Literal["client", "server"]


class Open(NamedTuple):
    """The first event: the endpoint begins, actively or as the one that waits."""

    role: Role
    path: Path


class Arrival(NamedTuple):
    """Octets arrived: the transport header and what follows it. `ecn` is the IP header's codepoint."""

    octets: bytes
    path: Path
    ecn: int = 0


class Fired(NamedTuple):
    """A timer is due."""

    name: str
    path: Path


class Write(NamedTuple):
    """The application writes octets (in message mode: one message)."""

    data: bytes


class Read(NamedTuple):
    """The application took octets that were delivered; their room is free again."""

    octets: int


class Shutdown(NamedTuple):
    """The application writes no more; it still reads."""


class Close(NamedTuple):
    """The application is finished; what was written still goes out."""


class Abort(NamedTuple):
    """The application gives up at once."""


class Unreachable(NamedTuple):
    """An ICMP error or a local failure: packets on this path do not get through."""

    path: Path
    reason: str


class MtuChanged(NamedTuple):
    """The path now takes packets of `mtu` octets; `path.mtu` says so already."""

    path: Path
    mtu: int


PathEvent: TypeAlias = Unreachable | MtuChanged
AppOperation: TypeAlias = Write | Read | Shutdown | Close | Abort


# ---- notices: what an endpoint tells the application ------------------------------------------------


class Connected(NamedTuple):
    """The peer is there."""


class PeerClosed(NamedTuple):
    """All that the peer wrote has been delivered, and no more will come."""


class Closed(NamedTuple):
    """All that was written has arrived, and the exchange is over."""


class Reset(NamedTuple):
    """The exchange ended in disorder."""

    reason: str


class Writable(NamedTuple):
    """There is room for so many octets more, as far as the endpoint is concerned."""

    octets: int


Notice: TypeAlias = Connected | PeerClosed | Closed | Reset | Writable


# ---- actions: what an endpoint wants done -----------------------------------------------------------


class Send(NamedTuple):
    """Send these octets (transport header and payload), not before `at_ns`."""

    octets: bytes
    path: Path
    ecn: int
    at_ns: int


class SetTimer(NamedTuple):
    """Call back at `at_ns`; a timer of that name and path that is set already is moved."""

    name: str
    at_ns: int
    path: Path


class CancelTimer(NamedTuple):
    """Forget the timer; nothing happens when there is none."""

    name: str
    path: Path


class Deliver(NamedTuple):
    """Hand octets (in message mode: one message) to the application."""

    data: bytes


class Tell(NamedTuple):
    """Tell the application."""

    notice: Any


class Metric(NamedTuple):
    """Values to plot: cwnd, ssthresh, srtt ..."""

    values: dict[str, float]


class Note(NamedTuple):
    """Something for the trace: a retransmission and its reason, a state."""

    name: str
    fields: dict[str, Any]


class Done(NamedTuple):
    """The endpoint is finished and may be forgotten; nothing may follow."""


Action: TypeAlias = Send | SetTimer | CancelTimer | Deliver | Tell | Metric | Note | Done
