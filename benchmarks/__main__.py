"""Run every benchmark beside this file and show one table: `make bench`, or `python benchmarks [NAME...]`.

Each script asks one question and prints a JSON object per line: `bench` and `case` name it, `rawkit` and
`peer` are the measurements in `unit`, `peer_name` says against whom, and `ratio` is how many times better
rawkit is, whichever way the unit runs. A script also runs alone. Lines of another shape are passed through.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

FIELDS = ("bench", "case", "rawkit", "peer", "peer_name", "unit", "ratio")


def main() -> int:
    here = Path(__file__).parent
    scripts = {path.stem: path for path in sorted(here.glob("*.py")) if not path.name.startswith("_")}
    names = sys.argv[1:] or list(scripts)
    if unknown := set(names) - scripts.keys():
        print(
            f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(scripts)}",
            file=sys.stderr,
        )
        return 2
    table = Table("bench", "case", "unit", title=f"rawkit and its peers, {os.cpu_count()} processors")
    for column in ("rawkit", "peer", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("peer is")
    failed = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, scripts[name]], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            failed.append(name)
        for line in done.stdout.splitlines():
            row = parse(line)
            if row is None:
                print(line)
                continue
            bench, case, rawkit, peer, peer_name, unit, ratio = row
            table.add_row(
                str(bench), str(case), str(unit), short(rawkit), short(peer), short(ratio), str(peer_name)
            )
    console = Console()
    # Without a terminal there is no width to fit: lines stay whole.
    console.print(table, **({} if console.is_terminal else {"width": 140}))  # type: ignore[arg-type]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def parse(line: str) -> list[object] | None:
    """The fields of a result, None when this is none. A peer that is absent leaves its fields out."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or "bench" not in record:
        return None
    return [record.get(field, "") for field in FIELDS]


def short(value: object) -> str:
    """A measurement to three figures or so: 0.0213, 4.31, 1,234,567."""
    if isinstance(value, int) or not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


sys.exit(main())
