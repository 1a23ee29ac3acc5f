"""Files for xplot: what is in them, and that xplot reads them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import oracles
import pytest

from rawkit.report.run import Run
from rawkit.report.series import time_sequence
from rawkit.report.xpl import xpl
from rawkit.sim import Schedule, Transfer
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.of(Transfer(SelectiveRepeat, octets=60_000, schedule=Schedule.parse("drop 8, drop 12")).run())


def test_every_packet_retransmission_and_loss_is_a_mark(run: Run) -> None:
    lines = xpl(run).splitlines()
    assert lines[:7] == [
        "timeval unsigned",
        "title",
        "SelectiveRepeat: sent by a (time sequence graph)",
        "xlabel",
        "time",
        "ylabel",
        "sequence number (octets)",
    ]
    assert lines[-1] == "go"
    found = time_sequence(run, "a")
    white = [line.split() for line in lines if line.startswith("line") and line.endswith("white")]
    assert [(float(w[1]), int(w[2]), int(w[4])) for w in white] == [
        (pytest.approx(time, abs=1e-6), start, end) for time, start, end in found.sent
    ]
    assert sum(line == "R" for line in lines) == len(found.again) > 0
    assert sum(line.startswith("x ") for line in lines) == len(found.lost) > 0
    assert all(
        re.fullmatch(r"(line|[ud]arrow|dtick|atext|x)( [\d.]+)+ [a-z]+|R|S|go", line) for line in lines[7:]
    )


@pytest.mark.slow
def test_xplot_reads_it(run: Run, tmp_path: Path) -> None:
    xplot, server = oracles.oracle("xplot.org"), oracles.oracle("Xvfb")
    path, bad = tmp_path / "run.xpl", tmp_path / "bad.xpl"
    path.write_text(xpl(run))
    bad.write_text(xpl(run).replace("dtick", "tick"))
    reading, writing = os.pipe()
    words = [server, "-displayfd", str(writing), "-screen", "0", "800x600x24"]
    with subprocess.Popen(words, pass_fds=[writing], stderr=subprocess.DEVNULL) as screen:
        os.close(writing)
        with os.fdopen(reading) as told:
            display = f":{told.readline().strip()}"
        try:
            environment = os.environ | {"DISPLAY": display}
            done = subprocess.run(
                [xplot, str(bad)], env=environment, capture_output=True, text=True, timeout=30
            )
            assert "input format error" in done.stderr
            with pytest.raises(subprocess.TimeoutExpired) as waiting:  # it shows the graph until it is closed
                subprocess.run([xplot, str(path)], env=environment, capture_output=True, timeout=4)
            assert not waiting.value.stderr
        finally:
            screen.terminate()
