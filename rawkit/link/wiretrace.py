"""The trace of a run over a real network: the simulator's events, and what the wire does not tell."""

from __future__ import annotations

from rawkit.transport.trace import Trace


class WireTrace(Trace):
    """A trace that several stacks of this process may share, so that packets are seen at both ends.

    An arrival has the number of the packet that was sent, found by addresses and octets. Of several that are
    alike (one was repeated) it is the newest that had the time to arrive. One that nobody here sent has a
    number of its own. Times are nanoseconds of the monotonic clock until `settle`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.packets = 0
        """How many packets have a number."""
        self._under_way: dict[tuple[str, str, bytes], list[tuple[int, int]]] = {}  # number, when it was sent
        self._quickest_ns: dict[tuple[str, str], int] = {}

    def sent(self, now_ns: int, where: str, src: str, dst: str, octets: bytes, ecn: int) -> None:
        """A packet leaves."""
        number = self.packets
        self.packets = number + 1
        self._under_way.setdefault((src, dst, octets), []).append((number, now_ns))
        self.add(now_ns, "send", where, number, src, dst, octets, ecn)

    def arrived(self, now_ns: int, where: str, src: str, dst: str, octets: bytes, ecn: int) -> None:
        """A packet has come."""
        alike = self._under_way.get((src, dst, octets))
        if alike:
            quickest = self._quickest_ns.get((src, dst))
            at = len(alike) - 1
            while at and quickest is not None and now_ns - alike[at][1] < quickest:
                at -= 1
            number, sent_ns = alike[at]
            if len(alike) == 1 and (quickest is None or now_ns - sent_ns < quickest):
                self._quickest_ns[src, dst] = now_ns - sent_ns
            del alike[at]
            if not alike:
                del self._under_way[src, dst, octets]
        else:
            number = self.packets
            self.packets = number + 1
        self.add(now_ns, "arrive", where, number, src, dst, octets, ecn)

    def settle(self) -> None:
        """The run is over: times count from the first event, and packets that did not come are lost.

        A loss is noted at the time at which the packet was sent; where it happened nobody saw. What may be
        under way still, going by the slowest packet that went that way, is not lost. Of a host that has no
        stack here nobody knows what arrived there: nothing is noted as lost on the way to it, and what it
        sent is sent when it arrives here.
        """
        sent = {event.packet: event.time_ns for event in self.events if event.kind == "send"}
        arrived: set[int] = set()
        slowest: dict[tuple[str, str], int] = {}
        for event in self.events:
            if event.kind == "arrive":
                arrived.add(event.packet)
                took, way = event.time_ns - sent.get(event.packet, event.time_ns), (event.src, event.dst)
                slowest[way] = max(slowest.get(way, 0), took)
        end = self.events[-1].time_ns if self.events else 0
        names = {event.src: event.where for event in self.events if event.kind == "send"}
        names |= {event.dst: event.where for event in self.events if event.kind == "arrive"}
        events = []
        for event in self.events:
            if event.kind == "arrive" and event.packet not in sent:
                events.append(event._replace(kind="send", where=names.get(event.src, event.src)))
            events.append(event)
            watched = event.kind == "send" and event.packet not in arrived and event.dst in names
            if watched and event.time_ns + slowest.get((event.src, event.dst), 0) < end:
                where = f"{event.where}>{names[event.dst]}"
                events.append(event._replace(kind="drop", where=where, detail="did not arrive"))
        start = events[0].time_ns if events else 0
        self.events = [event._replace(time_ns=event.time_ns - start) for event in events]
