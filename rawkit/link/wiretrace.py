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

        A loss is noted at the time at which the packet was sent; where it happened nobody saw.
        """
        arrived = {event.packet for event in self.events if event.kind == "arrive"}
        names = {event.src: event.where for event in self.events if event.kind == "send"}
        events = []
        for event in self.events:
            events.append(event)
            if event.kind == "send" and event.packet not in arrived:
                way = f"{event.where}>{names.get(event.dst, event.dst)}"
                events.append(event._replace(kind="drop", where=way, detail="did not arrive"))
        start = events[0].time_ns if events else 0
        self.events = [event._replace(time_ns=event.time_ns - start) for event in events]
