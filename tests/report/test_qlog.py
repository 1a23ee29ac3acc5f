"""qlog against draft-ietf-quic-qlog-main-schema (the editors' copy of July 2026), and what qvis reads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rawkit.report.qlog import export_qvis, qlog
from rawkit.report.run import Run
from rawkit.sim import Bernoulli, Corrupt, LinkSpec, Reorder, Result, Schedule, Transfer
from rawkit.transport.protocols.go_back_n import GoBackN
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat

# ---- the CDDL of the draft: type name to its fields, "?" for those that may be missing ----------------

Check = Callable[[Any], bool]


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_map(value: Any) -> bool:
    return isinstance(value, dict)


def one_of(*texts: str) -> Check:
    return lambda value: value in texts


def is_list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(check, value))


def has(fields: dict[str, Check], *, others: bool = False) -> Check:
    def check(value: Any) -> bool:
        assert isinstance(value, dict), value
        for name, kind in fields.items():
            if name.rstrip("?") in value:
                assert kind(value[name.rstrip("?")]), (name, value)
            else:
                assert name.endswith("?"), (name, value)
        assert others or {*value} <= {name.rstrip("?") for name in fields}, value
        return True

    return check


REFERENCE_TIME = has({"clock_type": is_text, "epoch": is_text, "wall_clock_time?": is_text})
TIME_FORMAT = one_of("relative_to_epoch", "relative_to_previous_event")
COMMON_FIELDS = has(
    {"tuple?": is_text, "time_format?": TIME_FORMAT, "reference_time?": REFERENCE_TIME, "group_id?": is_text},
    others=True,
)
VANTAGE_POINT = has(
    {
        "name?": is_text,
        "type": one_of("client", "server", "network", "unknown"),
        "flow?": one_of("client", "server", "unknown"),
    }
)
TRACE_SEQ = has(
    {
        "title?": is_text,
        "description?": is_text,
        "common_fields?": COMMON_FIELDS,
        "vantage_point?": VANTAGE_POINT,
        "event_schemas": is_list_of(is_text),
    }
)
QLOG_FILE_SEQ = has(
    {
        "file_schema": one_of("urn:ietf:params:qlog:file:sequential"),
        "serialization_format": one_of("application/qlog+json-seq"),
        "title?": is_text,
        "description?": is_text,
        "trace": TRACE_SEQ,
    }
)
EVENT = has(
    {"time": is_number, "name": is_text, "data": is_map, "time_format?": TIME_FORMAT, "group_id?": is_text},
    others=True,
)
RAW_INFO = has(
    {
        "length?": is_number,
        "payload_length?": is_number,
        "data?": lambda v: bool(re.fullmatch("([0-9a-f]{2})*", v)),
    }
)
SCENARIO = has({"name?": is_text, "details?": is_map})


def read(text: str) -> list[dict[str, Any]]:
    """JSON text sequences (RFC 7464)."""
    assert text[0] == "\x1e"
    records = text[1:].split("\x1e")
    assert all(record.endswith("\n") for record in records)
    return [json.loads(record, object_pairs_hook=lambda pairs: dict(pairs)) for record in records]


def names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value}.union(*map(names, value.values())) if value else set()
    return set().union(*map(names, value)) if isinstance(value, list) and value else set()


LINK = LinkSpec("10Mbit/s", "20ms", models=(Bernoulli(0.03), Corrupt(0.02), Reorder(0.02, by_packets=2)))
TRANSFERS = [
    Transfer(SelectiveRepeat, octets=120_000, back=5_000, link=LINK),
    Transfer(GoBackN, {"bits": 4, "window": 9}, octets=50_000, link=LINK),
]


@pytest.fixture(scope="module", params=TRANSFERS, ids=lambda t: t.protocol.__name__)
def result(request: pytest.FixtureRequest) -> Result:
    made: Result = request.param.run()
    assert made.complete
    return made


@pytest.mark.parametrize("host", ["a", "b"])
def test_it_is_what_the_draft_defines(result: Result, host: str) -> None:
    head, *events = read(qlog(Run.of(result), host))
    assert QLOG_FILE_SEQ(head)
    # "When using the "monotonic" clock type, the epoch field MUST have the value "unknown"."
    assert head["trace"]["common_fields"]["reference_time"] == {"clock_type": "monotonic", "epoch": "unknown"}
    assert head["trace"]["vantage_point"]["type"] == {"a": "client", "b": "server"}[host]
    assert all(map(EVENT, events))
    namespaces = {uri.rpartition(":")[2] for uri in head["trace"]["event_schemas"]}
    assert {event["name"].partition(":")[0] for event in events} == namespaces
    assert all(event["name"].count(":") == 1 for event in events)
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert all(RAW_INFO(event["data"]["raw"]) for event in events if "raw" in event["data"])
    assert SCENARIO(events[0]["data"])
    assert not any(re.search("[A-Z]", name) for name in names([head, *events[1:]]))
    largest = max(n for event in events for n in event["data"].values() if isinstance(n, int))
    assert largest < 2**53  # what JavaScript can read (I-JSON)


def test_every_packet_of_the_host_is_there_with_its_fields(result: Result) -> None:
    _, *events = read(qlog(Run.of(result)))
    sent = [event for event in events if event["name"] == "rawkit:packet_sent"]
    truth = [event for event in result.trace.of("send") if event.where == "a"]
    assert [event["data"]["packet"] for event in sent] == [event.packet for event in truth]
    assert [round(event["time"] * 1e6) for event in sent] == [event.time_ns for event in truth]
    header = result.transfer.protocol.header
    for event, true in zip(sent, truth, strict=True):
        parsed = header.parse(true.octets)
        assert event["data"]["header"]["seq"] == parsed.seq
        assert event["data"]["header"]["checksum"] == parsed.checksum
        assert event["data"]["raw"]["length"] == len(true.octets)
    dropped = [
        event for event in events if event["name"] == "rawkit:packet_dropped" and "where" in event["data"]
    ]
    assert len(dropped) == sum(1 for event in result.trace.of("drop") if event.where == "a>b")


def test_two_processes_with_other_hashes_write_the_same_octets() -> None:
    script = (
        "import hashlib; from rawkit.report.qlog import *; from rawkit.report.run import Run; "
        "from rawkit.sim import *; "
        "from rawkit.transport.protocols.selective_repeat import SelectiveRepeat as P; "
        "link = LinkSpec('9Mbit/s', '9ms', models=(Bernoulli(.05),)); "
        "run = Run.of(Transfer(P, octets=60_000, link=link).run()); "
        "print(*(hashlib.sha256(write(run).encode()).hexdigest() for write in (qlog, export_qvis)))"
    )
    told = set()
    for hashes in ("1", "77"):
        environment = os.environ | {"PYTHONHASHSEED": hashes}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        told.add(done.stdout)
    assert len(told) == 1


def test_qvis_reads_a_connection_whose_packets_are_acknowledged_or_lost() -> None:
    result = Transfer(
        SelectiveRepeat, octets=90_000, schedule=Schedule.parse("drop 8, drop 12, drop 20")
    ).run()
    whole = json.loads(export_qvis(Run.of(result)))
    # What QlogLoaderV2 asks for, without a word of complaint.
    assert (whole["qlog_version"], whole["qlog_format"]) == ("draft-02", "JSON")
    (trace,) = whole["traces"]
    assert trace["common_fields"]["time_format"] == "relative"
    events = trace["events"]
    times = [event["time"] for event in events]
    assert times == sorted(times)
    kinds: dict[str, list[Any]] = {}
    for event in events:
        kinds.setdefault(event["name"], []).append(event["data"])
    sent = [data["header"]["packet_number"] for data in kinds["transport:packet_sent"]]
    assert sent == list(range(len(sent)))
    assert len(sent) == sum(1 for event in result.trace.of("send") if event.where == "a")
    lost = [data["header"]["packet_number"] for data in kinds["recovery:packet_lost"]]
    numbers = {
        event.packet: i for i, event in enumerate(e for e in result.trace.of("send") if e.where == "a")
    }
    assert lost == [numbers[event.packet] for event in result.trace.of("drop") if event.where == "a>b"]
    acked: list[int] = []
    for data in kinds["transport:packet_received"]:
        for frame in data["frames"]:
            for first, last in frame.get("acked_ranges", ()):
                acked += range(first, last + 1)
    assert len(acked) == len({*acked})
    carrying = [
        data["header"]["packet_number"]
        for data in kinds["transport:packet_sent"]
        if data["frames"][0]["frame_type"] == "stream"
    ]
    assert sorted([*acked, *lost]) == carrying
    told = {name for data in kinds["recovery:metrics_updated"] for name in data}
    assert told == {"bytes_in_flight", "congestion_window", "ssthresh", "smoothed_rtt", "latest_rtt"}
    assert max(data.get("latest_rtt", 0) for data in kinds["recovery:metrics_updated"]) < 1000  # milliseconds
