"""Results of the benchmarks kept as lines of JSON, as a table, and as a page for the documentation."""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

import rawkit

HERE = Path(__file__).resolve().parent
SAVED = HERE.parent / "build" / "benchmarks.jsonl"

# What peers are called where they say their version, and how they are asked.
PROGRAMS = {
    "trafgen": "--version",
    "tcpreplay": "--version",
    "masscan": "--version",
    "tcpdump": "--version",
    "tshark": "--version",
    "dumpcap": "--version",
    "netsniff-ng": "--version",
    "nmap": "--version",
    "fping": "--version",
    "ping": "-V",
}
DISTRIBUTIONS = ("scapy", "dpkt", "pypcap", "python-libpcap", "numpy", "cffi")


def parse(line: str) -> dict[str, Any] | None:
    """A result, or None for a line that is none."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "bench" in record else None


def load() -> list[dict[str, Any]]:
    """What was measured last, of every benchmark."""
    lines = SAVED.read_text(encoding="utf-8").splitlines() if SAVED.exists() else []
    return [record for record in map(parse, lines) if record is not None]


def save(records: Iterable[dict[str, Any]], script: str) -> None:
    """Keep the results of a script in place of its earlier ones."""
    kept = [record for record in load() if record["script"] != script]
    kept += [record | {"script": script} for record in records]
    kept.sort(key=lambda record: record["script"])
    SAVED.parent.mkdir(exist_ok=True)
    SAVED.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")


def cells(record: dict[str, Any]) -> list[str]:
    """Case, rawkit's and the peer's measurement, their unit, the ratio, and who the peer is."""
    if "missing" in record:
        return [str(record.get("case", "")), "", "", "", "", f"{record['peer_name']}: missing"]
    measured = [short(record.get(name, "")) for name in ("rawkit", "peer")]
    ratio = short(record.get("ratio", ""))
    return [str(record["case"]), *measured, str(record["unit"]), ratio, str(record.get("peer_name", ""))]


def short(value: object) -> str:
    """A measurement to three figures or so: 0.0213, 4.31, 1,234,567."""
    if isinstance(value, int) or not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


HEADINGS = ("case", "rawkit", "peer", "unit", "ratio", "peer is")


def table(records: Iterable[dict[str, Any]]) -> Table:
    """Everything in one table."""
    shown = Table("bench", title=f"rawkit and its peers, {os.cpu_count()} processors")
    for heading in HEADINGS:
        shown.add_column(heading, justify="right" if heading in ("rawkit", "peer", "ratio") else "left")
    for record in records:
        shown.add_row(str(record["bench"]), *cells(record))
    return shown


# ---- the page


def page(records: list[dict[str, Any]]) -> str:
    """docs/performance.md."""
    parts = [_INTRODUCTION, *machine(), ""]
    for script in sorted({record["script"] for record in records}):
        question, detail = explained(script)
        parts += [f"## {question}", "", *textwrap.wrap(detail, 110, break_on_hyphens=False), ""]
        parts += ["| " + " | ".join(HEADINGS) + " |", "|---|--:|--:|---|--:|---|"]
        rows = [record for record in records if record["script"] == script]
        parts += ["| " + " | ".join(cells(row)) + " |" for row in rows if "missing" not in row]
        absent = [f"{row['peer_name']} ({row['missing']})" for row in rows if "missing" in row]
        parts += ["", f"Missing here: {', '.join(absent)}."] if absent else []
        parts += ["", f"`python benchmarks {script}`", ""]
    return "\n".join(parts)


_INTRODUCTION = """# Performance

What rawkit does in a second, beside other tools that do the same, run in turn on the same machine. Written by
`python benchmarks --write docs/performance.md`; each section is a script in `benchmarks/`, which says how it
measures. Medians; `ratio` is how many times better rawkit is, whichever way the unit runs. Compare the two
columns of a row, not rows of different machines.
"""


def explained(script: str) -> tuple[str, str]:
    """The question that a script asks, and how it is answered: the two parts of its docstring."""
    text = ast.get_docstring(ast.parse((HERE / f"{script}.py").read_text(encoding="utf-8"))) or script
    question, _, detail = text.partition("\n\n")
    detail = re.sub(r"\s*Prints one JSON object per line\.?;?", "", detail.replace("\n", " ")).strip()
    return question, detail


def machine() -> Iterator[str]:
    """On what it was measured: processor, kernel, and the versions of all that took part."""
    load = os.getloadavg()[2]
    yield f"- {processor()}, {os.cpu_count()} processors, Linux {platform.release()}; load {load:.1f}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    yield f"- rawkit {rawkit.__version__}{commit()}, {python}"
    yield from textwrap.wrap(
        "- " + ", ".join([*distributions(), *programs()]), 110, subsequent_indent="  ", break_on_hyphens=False
    )


def processor() -> str:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def commit() -> str:
    argv = ["git", "-C", HERE, "describe", "--always", "--dirty"]
    done = subprocess.run(argv, capture_output=True, text=True) if shutil.which("git") else None
    return f" ({done.stdout.strip()})" if done is not None and done.returncode == 0 else ""


def distributions() -> Iterator[str]:
    for name in DISTRIBUTIONS:
        try:
            yield f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue


def programs() -> Iterator[str]:
    for name, option in PROGRAMS.items():
        if shutil.which(name) is None:
            continue
        done = subprocess.run([name, option], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        version = re.search(r"\d+(\.\d+)+\w*|\d{8}", done.stdout + done.stderr)
        yield f"{name} {version[0] if version else '(no version)'}"
