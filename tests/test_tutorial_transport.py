"""docs/tutorial-transport.md, walked through as a newcomer would: every block of it is code or output that
is real.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOC = (Path(__file__).parents[1] / "docs" / "tutorial-transport.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", DOC, re.MULTILINE | re.DOTALL)
PLANTED = "            if self.queue:\n"
SOUND = "            if self.queue and header.number == self.sending:\n"


def of(kind: str) -> list[str]:
    return [text for name, text in BLOCKS if name == kind]


def run(where: Path, *arguments: str) -> tuple[int, str]:
    # As Python finds a script's neighbours by itself, unless PYTHONSAFEPATH is set, as in `make test`.
    path = os.pathsep.join(filter(None, [str(where), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=where, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("courier")
    assert run(where, "-m", "rawkit", "transport", "new", "courier") == (0, "")
    return where


def test_its_code_is_in_the_file_that_is_written(place: Path) -> None:
    source = (place / "courier.py").read_text()
    blocks = of("python")
    assert len(blocks) == 4
    assert all(block in source for block in blocks[:3])
    assert SOUND in source
    assert blocks[3] == PLANTED
    header, protocol = blocks[:2]
    assert len(header.splitlines()) <= 15
    code = [line for line in protocol.splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 40


def test_the_run_the_check_and_the_bug_print_what_it_says(place: Path) -> None:
    ladder, sound, broken = of("text")
    assert run(place, "courier.py") == (0, ladder)
    check = ("-m", "rawkit", "transport", "check", "courier.py:Courier")
    assert run(place, *check) == (0, sound)
    file = place / "courier.py"
    file.write_text(file.read_text().replace(SOUND, PLANTED))
    assert run(place, *check) == (1, broken)
    assert len(broken.splitlines()) <= 40  # one screen
    script = broken[broken.index("from courier") :]
    (place / "again.py").write_text(script)
    status, shown = run(place, "again.py")
    assert status == 0
    assert "the client was never told that all is over" in shown
