"""The types that headers promise, as mypy and pyright see them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def check(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_example_is_typed_as_it_says_to_mypy(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is in the dev group")
    check(
        "mypy", "--strict", "--warn-unused-ignores", f"--cache-dir={tmp_path}", "--follow-imports=silent",
        "--config-file=", "tests/typing_example.py",
    )  # fmt: skip


def test_example_is_typed_as_it_says_to_pyright() -> None:
    """In strict mode; as with mypy, an error that is announced and does not come is one."""
    pytest.importorskip("pyright", reason="pyright is in the dev group")
    check("pyright", "--pythonpath", sys.executable)
