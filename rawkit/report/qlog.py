"""A run as qlog (draft-ietf-quic-qlog-main-schema): what one host saw and did, as JSON text sequences.

Events are of the namespace "rawkit": they have the fields of packets and what `analysis` says of them. What
the link lost is among them, though no host sees that: a tool that wants it not leaves `packet_dropped` out.
`export_qvis` writes the older form, draft-02 with events of QUIC, that the visualizations of qvis read.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from typing import Any

from rawkit.report.analysis import Facts
from rawkit.report.run import Run
from rawkit.transport.trace import TraceEvent
from rawkit.wire.header import Header

SCHEMA = "urn:rawkit:qlog:events:rawkit"
"""Names the events below; a private schema, as the draft's section on event schema URIs allows."""

RECORD_SEPARATOR = "\x1e"  # RFC 7464


def qlog(run: Run, host: str = "") -> str:
    """The run as `host` saw it, by default the client. Times are milliseconds from the start of the run."""
    host = host or run.hosts[0]
    head = {
        "file_schema": "urn:ietf:params:qlog:file:sequential",
        "serialization_format": "application/qlog+json-seq",
        "title": run.name,
        "trace": {
            "common_fields": {
                "time_format": "relative_to_epoch",
                "reference_time": {"clock_type": "monotonic", "epoch": "unknown"},
            },
            "vantage_point": {"name": host, "type": "client" if host == run.hosts[0] else "server"},
            "event_schemas": [SCHEMA, "urn:ietf:params:qlog:events:simulation"],
        },
    }
    scenario = {"name": run.name, "details": dict(run.settings)}
    records = [head, {"time": 0, "name": "simulation:scenario", "data": scenario}, *_events(run, host)]
    return "".join(f"{RECORD_SEPARATOR}{_json(record)}\n" for record in records)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _ms(time_ns: int) -> int | float:
    """Milliseconds; exact, since nanoseconds of a week fit a float64."""
    return time_ns // 10**6 if time_ns % 10**6 == 0 else time_ns / 1e6


def _events(run: Run, host: str) -> Iterator[dict[str, Any]]:
    facts = {id(event): each for event, each in run.facts}
    mine = {event.packet for event in run.trace if event.kind == "send" and event.where == host}
    for event in run.trace:
        if event.where != host and not (event.kind in ("drop", "corrupt") and event.packet in mine):
            continue
        told = _told(run, event, facts.get(id(event)))
        if told is not None:
            name, data = told
            yield {"time": _ms(event.time_ns), "name": f"rawkit:{name}", "data": data}


def _told(run: Run, event: TraceEvent, facts: Facts | None) -> tuple[str, dict[str, Any]] | None:
    """An event's type and data."""
    kind = event.kind
    if kind in ("send", "arrive"):
        if facts is None:
            raw = {"length": len(event.octets), "data": event.octets.hex()}
            return "packet_dropped", {"packet": event.packet, "reason": "damaged", "raw": raw}
        return "packet_sent" if kind == "send" else "packet_received", _packet(run, event, facts)
    if kind in ("drop", "corrupt"):
        data = {"packet": event.packet, "where": event.where, "reason": event.detail or kind}
        return ("packet_dropped" if kind == "drop" else "packet_damaged"), data
    if kind == "metric":
        return "metrics_updated", {name.lower(): _plain(value) for name, value in event.fields.items()}
    if kind == "deliver":
        return "data_delivered", {"raw": {"length": len(event.octets)}}
    if kind == "timer":
        return "timer_expired", {"timer": event.detail}
    if kind == "note":
        return "note", {
            "text": event.detail,
            "fields": {k.lower(): _plain(v) for k, v in event.fields.items()},
        }
    if kind in ("tell", "app"):
        return ("notice" if kind == "tell" else "operation"), {"text": event.detail}
    return ("finished", {}) if kind == "done" else None


def _packet(run: Run, event: TraceEvent, facts: Facts) -> dict[str, Any]:
    header = run.roles.header.parse(event.octets)
    data: dict[str, Any] = {
        "packet": event.packet,
        "header": fields_of(header),
        "raw": {"length": len(event.octets), "payload_length": facts.reading.payload},
    }
    if event.ecn:
        data["ecn"] = ("not-ECT", "ECT(1)", "ECT(0)", "CE")[event.ecn]
    found = {
        "number": facts.seq,
        "acknowledges": facts.ack,
        "acknowledged_ranges": [list(each) for each in facts.sacks] or None,
        "rtt": None if facts.rtt_ns is None else _ms(facts.rtt_ns),
        "bytes_in_flight": facts.in_flight,
        "duplicate_acknowledgement": facts.dup_ack or None,
        "retransmission": facts.retransmission or None,
    }
    analysis = {name: value for name, value in found.items() if value is not None}
    return {**data, "analysis": analysis} if analysis else data


def fields_of(header: Header) -> dict[str, Any]:
    """The fields of a header by name, as JSON has them. qlog wants names in small letters."""
    return {row.name.lower(): _plain(getattr(header, row.name)) for row in header.fields}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value)


# ---- for qvis ---------------------------------------------------------------------------------------


def export_qvis(run: Run) -> str:
    """The run as the client saw it, as qlog draft-02: a QUIC connection in the eyes of qvis.

    Each transmission has a packet number of its own, as in QUIC. It is lost when its data are sent again and
    it had not arrived; an acknowledgement names all others of what it acknowledges.
    """
    host = run.hosts[0]
    books = _Transmissions(run, host)
    events = [event for each in run.trace for event in books.events(each)]
    trace = {
        "title": run.name,
        "vantage_point": {"name": host, "type": "client"},
        "configuration": {"time_units": "ms"},
        "common_fields": {"time_format": "relative", "reference_time": 0, "protocol_type": "QUIC"},
        "events": events,
    }
    whole = {"qlog_version": "draft-02", "qlog_format": "JSON", "title": run.name, "traces": [trace]}
    return _json(whole) + "\n"


class _Transmissions:
    """What a sender has under way, by the numbers that QUIC would give to its packets."""

    def __init__(self, run: Run, host: str) -> None:
        self.host = host
        self.facts = {id(event): each for event, each in run.facts}
        self.sent = self.received = 0
        self.numbers: dict[int, int] = {}
        """Packet of the trace to packet number."""
        self.under_way: deque[tuple[int, int, int]] = deque()
        """Start, end, packet number, of what is neither acknowledged nor taken for lost."""
        self.arrived: set[int] = set()

    def events(self, event: TraceEvent) -> Iterator[dict[str, Any]]:
        facts = self.facts.get(id(event))
        if event.kind == "arrive" and event.packet in self.numbers and facts is not None:
            self.arrived.add(self.numbers[event.packet])
        if event.where != self.host:
            return
        if event.kind == "send" and facts is not None:
            yield from self._sent(event, facts)
        elif event.kind == "arrive" and facts is not None:
            yield self._received(event, facts)
            if facts.rtt_ns is not None:
                yield _event(event, "recovery:metrics_updated", {"latest_rtt": facts.rtt_ns / 1e6})
        elif event.kind == "metric":
            known = {name: value for name, value in event.fields.items() if name in QVIS_METRICS}
            data = {QVIS_METRICS[name][0]: value * QVIS_METRICS[name][1] for name, value in known.items()}
            if data:
                yield _event(event, "recovery:metrics_updated", data)

    def _sent(self, event: TraceEvent, facts: Facts) -> Iterator[dict[str, Any]]:
        if facts.seq is not None:
            start, end = facts.seq, facts.seq + facts.reading.span
            for each in [each for each in self.under_way if each[0] < end and start < each[1]]:
                if each[2] not in self.arrived:
                    self.under_way.remove(each)
                    header = {"packet_type": "1RTT", "packet_number": each[2]}
                    yield _event(event, "recovery:packet_lost", {"header": header})
            self.under_way.append((start, end, self.sent))
        self.numbers[event.packet] = self.sent
        frames = [_stream(facts)] if facts.seq is not None else [{"frame_type": "ping"}]
        yield _event(event, "transport:packet_sent", _quic(self.sent, event, facts, frames))
        if facts.in_flight is not None:
            yield _event(event, "recovery:metrics_updated", {"bytes_in_flight": facts.in_flight})
        self.sent += 1

    def _received(self, event: TraceEvent, facts: Facts) -> dict[str, Any]:
        frames = [_stream(facts)] if facts.seq is not None else []
        numbers = sorted(self._acknowledged(facts))
        if numbers:
            frames.append({"frame_type": "ack", "acked_ranges": _ranges(numbers)})
        data = _quic(self.received, event, facts, frames or [{"frame_type": "ping"}])
        self.received += 1
        return _event(event, "transport:packet_received", data)

    def _acknowledged(self, facts: Facts) -> Iterator[int]:
        """Packet numbers that have not been acknowledged before."""
        if facts.ack is None:
            return
        for each in list(self.under_way):
            start, end, number = each
            if end <= facts.ack or any(a <= start and end <= b for a, b in facts.sacks):
                self.under_way.remove(each)
                yield number


QVIS_METRICS = {
    "cwnd": ("congestion_window", 1),
    "ssthresh": ("ssthresh", 1),
    "srtt": ("smoothed_rtt", 1000),
    "min_rtt": ("min_rtt", 1000),
    "pacing_bps": ("pacing_rate", 1),
}
"""Names of metrics to those that qvis plots, and what to multiply with: times are in milliseconds there."""


def _event(event: TraceEvent, name: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"time": _ms(event.time_ns), "name": name, "data": data}


def _quic(number: int, event: TraceEvent, facts: Facts, frames: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "header": {"packet_type": "1RTT", "packet_number": number},
        "raw": {"length": len(event.octets), "payload_length": facts.reading.payload},
        "frames": frames,
    }


def _stream(facts: Facts) -> dict[str, Any]:
    return {"frame_type": "stream", "stream_id": 0, "offset": facts.seq, "length": facts.reading.payload}


def _ranges(numbers: list[int]) -> list[list[int]]:
    """Numbers in order as ranges, first and last."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
