"""What tshark says of captures with generated dissectors."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import oracles


def columns(
    capture: Path, scripts: Iterable[Path], names: Sequence[str], *options: str
) -> list[dict[str, list[str]]]:
    """The values of these fields in each frame, as tshark prints them."""
    words = [oracles.oracle("tshark"), "-n", "-r", str(capture), *options]
    words += [word for script in scripts for word in ("-X", f"lua_script:{script}")]
    words += ["-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"]
    words += [word for name in names for word in ("-e", name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert done.returncode == 0, done.stderr
    assert not complaints, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [
        {name: cell.split("|") if cell else [] for name, cell in zip(names, row, strict=True)} for row in rows
    ]
