"""docs/capture.md: its commands are valid, and its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from rawkit.cli.main import main
from rawkit.lab import Lab

GUIDE = (Path(__file__).parents[1] / "docs" / "capture.md").read_text()
COMMANDS = [
    line for line in re.findall(r"^\$ rawkit (.*)", GUIDE, re.MULTILINE) if line.startswith("capture ")
]

pytestmark = pytest.mark.net


def test_every_command_is_accepted(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) > 10
    with Lab() as lab, lab.a:
        for command in COMMANDS:
            main([*shlex.split(command), "--explain"], standalone_mode=False)
            assert "on files: the same program" in capsys.readouterr().out


def test_the_python_in_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    with Lab() as lab, lab.a:
        exec(compile(code.replace("duration=10", "duration=0.1"), "capture.md", "exec"), {})
    assert capsys.readouterr().out.endswith("Counters(received=0, dropped=0)\n")
