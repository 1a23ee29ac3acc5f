"""One stream of everything that happened in a run; files, ladders and metrics are made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

PACKET_KINDS = ("send", "drop", "duplicate", "corrupt", "arrive")


class TraceEvent(NamedTuple):
    """One thing that happened.

    `kind` is one of send, drop, duplicate, corrupt, arrive (packets); timer, deliver, tell, metric, note,
    app, done (endpoints). `where` names the endpoint's host, or the direction of a link as "a>b".
    """

    time_ns: int
    kind: str
    where: str
    packet: int
    """The packet's number in the run; -1 for what concerns none."""
    src: str
    dst: str
    octets: bytes
    """The transport octets of a packet, or what was delivered."""
    ecn: int
    detail: str
    """Why it was lost, which bits were inverted, what was told, the timer's name."""
    fields: dict[str, Any]


class Trace:
    """The events of a run, in the order in which they happened."""

    def __init__(self) -> None:
        self.events: list[TraceEvent] = []

    def add(
        self,
        now_ns: int,
        kind: str,
        where: str,
        packet: int,
        src: str,
        dst: str,
        octets: bytes,
        ecn: int,
        detail: str = "",
    ) -> None:
        """Something happened to a packet."""
        self.events.append(TraceEvent(now_ns, kind, where, packet, src, dst, octets, ecn, detail, {}))

    def say(
        self,
        now_ns: int,
        kind: str,
        where: str,
        detail: str = "",
        octets: bytes = b"",
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Something happened at an endpoint."""
        self.events.append(TraceEvent(now_ns, kind, where, -1, "", "", octets, 0, detail, fields or {}))

    def __iter__(self) -> Iterator[TraceEvent]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def of(self, *kinds: str) -> Iterator[TraceEvent]:
        """The events of these kinds."""
        return (event for event in self.events if event.kind in kinds)

    def to_csv(self) -> str:
        """All events as lines of comma-separated values, times in ns, octets in hexadecimal."""
        import csv
        import io

        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow([*TraceEvent._fields[:-1], "fields"])
        for event in self.events:
            fields = " ".join(f"{name}={value}" for name, value in event.fields.items())
            rows.writerow([*event[:6], event.octets.hex(), *event[7:9], fields])
        return out.getvalue()

    def digest(self) -> str:
        """SHA-256 of the events, to compare runs by."""
        from hashlib import sha256

        return sha256(self.to_csv().encode()).hexdigest()
