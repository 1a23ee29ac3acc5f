"""A result as a file of each kind, and in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from rawkit.report import Run, save
from rawkit.report.run import machine_of
from rawkit.sim import Result, Transfer
from rawkit.transport import Endpoint, Machine
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader

DOOR = Machine("CLOSED open -> OPEN\nOPEN close -> CLOSED")


class Door(GoBackN, header=GoBackNHeader):
    def __init__(self) -> None:
        super().__init__()
        self.door = DOOR.start()


@pytest.fixture(scope="module")
def result() -> Result:
    return Transfer(GoBackN, octets=20_000).run()


@pytest.mark.parametrize(
    ("suffix", "begins"),
    [
        (".csv", b"run,series,seconds,value\nGoBackN,sent,0.000000000,0\n"),
        (".pcapng", b"\x0a\x0d\x0d\x0a"),
        (".qlog", b'\x1e{"file_schema"'),
        (".sqlog", b'\x1e{"file_schema"'),
        (".qvis", b'{"qlog_version":"draft-02"'),
        (".xpl", b"timeval unsigned\n"),
        (".HTML", b"<!DOCTYPE html>"),
    ],
)
def test_the_name_says_what_it_becomes(result: Result, suffix: str, begins: bytes, tmp_path: Path) -> None:
    result.report(tmp_path / f"run{suffix}")
    assert (tmp_path / f"run{suffix}").read_bytes().startswith(begins)


def test_it_opens_in_the_browser(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    path = result.show()
    assert opened == [path.as_uri()]
    assert "<title>GoBackN</title>" in path.read_text()
    path.unlink()
    path.parent.rmdir()


def test_a_state_machine_is_found_and_drawn(tmp_path: Path) -> None:
    assert machine_of(Door()) is DOOR
    assert machine_of(GoBackN()) is None
    endpoint: type[Endpoint] = Door
    run = Run.of(Transfer(endpoint, octets=100).run())
    save(run, tmp_path / "states.svg", only=["states"])
    assert ">OPEN</text>" in (tmp_path / "states.svg").read_text()


def test_a_transfer_without_a_trace_has_nothing_to_show() -> None:
    with pytest.raises(ValueError, match="kept no trace"):
        Transfer(GoBackN, octets=100, trace=False).run().report("x.csv")
