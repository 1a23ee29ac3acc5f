"""The types that headers promise, as mypy sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_example_is_typed_as_it_says(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is in the dev group")
    root = Path(__file__).parents[2]
    command = [
        sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", f"--cache-dir={tmp_path}",
        "--follow-imports=silent", "--config-file=", "tests/typing_example.py",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
