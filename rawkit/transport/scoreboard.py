"""What a sender has under way: which segments, what arrived, what is lost (RFC 6675)."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator

from rawkit.transport.ranges import RangeSet


class Segment:
    """Something that was sent under the numbers `start` .. `end` - 1 and waits for its acknowledgement."""

    __slots__ = (
        "acked",
        "data",
        "end",
        "first_ns",
        "lost",
        "mark",
        "sent_ns",
        "serial",
        "size",
        "start",
        "transmissions",
    )

    def __init__(self, start: int, end: int, size: int, data: object = None) -> None:
        self.start, self.end = start, end
        self.size = size
        """Octets, as the congestion window counts them."""
        self.data = data
        self.sent_ns = self.first_ns = 0
        """When it was sent for the last and for the first time."""
        self.transmissions = 0
        self.serial = 0
        """Counts transmissions of all segments: orders those at the same time."""
        self.acked = False
        """Whether it arrived, by cumulative or selective acknowledgement."""
        self.lost = False
        """Whether it is taken for lost and not sent again yet."""
        self.mark: object = None
        """What `DeliveryRate` notes about the last transmission."""

    def __repr__(self) -> str:
        return f"Segment({self.start}..{self.end - 1})"


class Scoreboard:
    """Segments in the order of their numbers, from the first that is not acknowledged on.

    `in_flight` is RFC 6675's pipe: octets that were sent and are neither acknowledged nor taken for lost. A
    call costs what changed, not what is under way.
    """

    def __init__(self, start: int = 0) -> None:
        self.una = start
        """The first number that is not acknowledged."""
        self.in_flight = 0
        self.flight_size = 0
        """Octets that were sent and are not acknowledged cumulatively (RFC 5681's FlightSize)."""
        self.segments: list[Segment] = []
        self.count = 0
        """How many segments wait for their acknowledgement, those that arrived behind others too."""
        self._head = 0  # those before it are acknowledged, and thrown away now and then
        self._starts: list[int] = []
        self.sacked = RangeSet()
        """Numbers beyond `una` that arrived."""
        self._lost: deque[Segment] = deque()
        self._by_time: deque[tuple[int, Segment]] = deque()
        self._serial = 0
        self._loss_edge = start  # below it losses by duplicates were looked for

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments[self._head :])

    # ---- sending ----------------------------------------------------------------------------------

    def sent(self, segment: Segment, now_ns: int) -> None:
        """A segment went out, for the first time (with higher numbers than all before) or again."""
        if not segment.transmissions:
            segment.first_ns = now_ns
            self.segments.append(segment)
            self._starts.append(segment.start)
            self.count += 1
            self.in_flight += segment.size
            self.flight_size += segment.size
        elif segment.lost:
            segment.lost = False
            self.in_flight += segment.size
        segment.transmissions += 1
        segment.sent_ns = now_ns
        self._serial += 1
        segment.serial = self._serial
        self._by_time.append((self._serial, segment))

    def next_lost(self) -> Segment | None:
        """The lost segment to send again; None when there is none."""
        lost = self._lost
        while lost and (not lost[0].lost or lost[0].acked):
            lost.popleft()
        return lost[0] if lost else None

    # ---- acknowledgements -------------------------------------------------------------------------

    def acknowledge(self, ack: int, blocks: Iterable[tuple[int, int]] = ()) -> list[Segment]:
        """Everything before `ack` arrived, and so did the numbers in `blocks`; the segments this is news of.

        What lies beyond all that was sent is ignored.
        """
        news: list[Segment] = []
        segments = self.segments
        head = self._head
        if ack > self.una:
            while head < len(segments) and segments[head].end <= ack:
                segment = segments[head]
                head += 1
                self.una = segment.end
                self.flight_size -= segment.size
                if not segment.acked:
                    self._arrived(segment)
                    news.append(segment)
            self.count -= head - self._head
            self._head = head
            if self.sacked:
                self.sacked.remove(0, self.una)
            if head > 64 and head * 2 > len(segments):
                del segments[:head], self._starts[:head]
                self._head = 0
                self.oldest_sent()  # forgets them too, for those who do not ask by time
        for start, end in blocks:
            if segments and start < segments[-1].end:
                for low, high in list(self.sacked.gaps(max(start, self.una), min(end, segments[-1].end))):
                    news += self._sack(low, high)
        return news

    def _sack(self, low: int, high: int) -> list[Segment]:
        news = []
        i = bisect_left(self._starts, low, self._head)
        while i < len(self.segments) and self.segments[i].end <= high:
            segment = self.segments[i]
            i += 1
            if not segment.acked:
                self._arrived(segment)
                self.sacked.add(segment.start, segment.end)
                news.append(segment)
        return news

    def _arrived(self, segment: Segment) -> None:
        segment.acked = True
        if not segment.lost:
            self.in_flight -= segment.size

    # ---- losses -----------------------------------------------------------------------------------

    def lose(self, segment: Segment) -> None:
        """Take a segment for lost: it is no more in flight, and to be sent again."""
        if not segment.lost and not segment.acked:
            segment.lost = True
            self.in_flight -= segment.size
            self._lost.append(segment)

    def lose_all(self) -> None:
        """After a time-out: nothing is in flight, all that has not arrived is to be sent again, in order."""
        self._lost.clear()
        for segment in self:
            if not segment.acked:
                if not segment.lost:
                    segment.lost = True
                    self.in_flight -= segment.size
                self._lost.append(segment)

    def lose_by_duplicates(self, threshold: int, mss: int) -> list[Segment]:
        """What is lost by RFC 6675's IsLost: enough arrived that was sent later. Each segment once.

        Enough is `threshold` ranges beyond it, or more than (threshold - 1) * mss numbers. A segment that
        was sent again and is lost again is not found: only a time-out, or RACK, does that.
        """
        above = 0
        edge = self.una
        for ranges, (start, end) in enumerate(reversed(list(self.sacked)), 1):
            above += end - start
            if ranges >= threshold or above > (threshold - 1) * mss:
                edge = start
                break
        found = []
        i = bisect_left(self._starts, max(self._loss_edge, self.una), self._head)
        while i < len(self.segments) and self.segments[i].end <= edge:
            segment = self.segments[i]
            i += 1
            if not segment.acked and segment.transmissions == 1:
                self.lose(segment)
                found.append(segment)
        self._loss_edge = max(self._loss_edge, edge)
        return found

    def oldest_sent(self) -> Segment | None:
        """Of the segments in flight the one whose last transmission is longest ago; None when there is
        none.
        """
        by_time = self._by_time
        while by_time:
            serial, segment = by_time[0]
            if segment.serial == serial and not (segment.acked or segment.lost):
                return segment
            by_time.popleft()
        return None
