"""Writes the figures of the tutorial, by the commands that stand in its pages."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]


def commands() -> Iterator[tuple[Path, list[str]]]:
    """The file that each command of the pages writes into this folder, and its arguments after `rawkit`."""
    for page in sorted(DOCS.glob("*.md")):
        for line in re.findall(
            r"^\$ rawkit (transport report .*docs/figures/.*)$", page.read_text("utf-8"), re.M
        ):
            words = shlex.split(line)
            yield DOCS.parent / words[words.index("-o") + 1], words


if __name__ == "__main__":
    for _, words in commands():
        # -P: the installed rawkit, not the source tree, in which there is no engine.
        subprocess.run([sys.executable, "-P", "-m", "rawkit", *words], cwd=DOCS.parent, check=True)
