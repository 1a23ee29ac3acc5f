"""The newcomer's file between two hosts of a lab: what is on the wire, as tshark and as we read it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from report.test_dissector import expected
from report.tshark import columns

from rawkit.lab import Lab
from rawkit.report.analysis import Analysis, Roles
from rawkit.report.capture import read_trace
from rawkit.report.dissector import dissector
from rawkit.report.run import Run
from rawkit.report.series import delivered, time_sequence
from rawkit.tools.labrun import run_in_lab
from rawkit.tools.scaffold import scaffold
from rawkit.transport.trace import TraceEvent


@pytest.mark.net
@pytest.mark.parametrize(("over", "version"), [("raw", 4), ("raw", 6), ("udp", 4)])
def test_every_field_and_verdict_on_the_wire(
    over: str, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wirenewcomer.py").write_text(scaffold("wirenewcomer"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wirenewcomer", raising=False)
    import wirenewcomer  # type: ignore[import-not-found]

    header = wirenewcomer.WirenewcomerHeader
    capture, script = tmp_path / "run.pcapng", tmp_path / "x.lua"
    with Lab(delay="1ms", loss="10%", seed=3) as lab:
        outcome = run_in_lab(
            wirenewcomer.Wirenewcomer,
            lab,
            over,
            version=version,
            capture=str(capture),
            octets=40_000,
            trace=True,
        )
    assert outcome.complete
    assert outcome.trace is not None
    events = list(read_trace(capture)[0])
    script.write_text(dissector(header))
    options = []
    if over == "udp":
        (port,) = {row["udp.dstport"][0] for row in columns(capture, [], ["udp.dstport"])[:1]}
        options = ["-d", f"udp.port=={port},wirenewcomer"]
    names = list(expected(header, bytes(header()), "wirenewcomer"))
    verdicts = [f"wirenewcomer.analysis.{word}" for word in ("retransmission", "bytes_in_flight")]
    rows = columns(capture, [script], [*names, *verdicts, "data.data", "_ws.expert"], *options)
    rows = [row for row in rows if row["wirenewcomer.number"]]
    analysis = Analysis(Roles(header))
    assert len(rows) == len(events) > 50
    for event, row in zip(events, rows, strict=True):
        wanted = expected(header, event.octets, "wirenewcomer")
        assert {name: [int(value, 0) for value in row[name]] for name in names} == wanted
        assert "".join(row["data.data"]) == event.octets[header.min_len :].hex()
        facts = analysis.see(event.time_ns, event.src, event.dst, event.octets)
        assert facts is not None
        assert bool(row[verdicts[0]]) == facts.retransmission
        assert row[verdicts[1]] == ([] if facts.in_flight is None else [str(facts.in_flight)])
    assert not any("Lua" in text for row in rows for text in row["_ws.expert"])

    def sent(events: list[TraceEvent]) -> list[bytes]:
        return [event.octets for event in events if event.kind == "send" and event.where == events[0].where]

    # The capture, and what the driver noted, are the same run.
    assert sent(events) == sent(list(outcome.trace))
    run = Run.of(outcome)
    found = time_sequence(run, "a")
    assert len(found.again) >= len(found.lost) > 0
    assert delivered(run, "b")[-1][1] == 40_000
