"""docs/tutorial-protocol.md says what examples/tutorial_protocol.py does, and what that prints."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "tutorial_protocol.py"
BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / "tutorial-protocol.md").read_text(), re.MULTILINE | re.DOTALL
)


def of(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


@pytest.fixture(scope="module")
def printed() -> str:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_its_code_is_the_example() -> None:
    source = EXAMPLE.read_text()
    assert len(of("python")) >= 7
    for block in of("python"):
        assert block in source or textwrap.indent(block, "    ") in source


def test_its_output_is_what_the_example_prints_all_of_it(printed: str) -> None:
    assert "".join(of("text")).splitlines() == printed.splitlines()


def test_the_declaration_has_fifteen_lines_at_most() -> None:
    (declaration,) = (block for block in of("python") if block.startswith("class"))
    assert len(declaration.splitlines()) <= 15
