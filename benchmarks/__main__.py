"""Run every benchmark beside this file and show one table: `make bench`, or `python benchmarks [NAME...]`.

Each script asks one question and prints a JSON object per line: `bench` and `case` name it, `rawkit` and
`peer` are the measurements in `unit`, `peer_name` says against whom, and `ratio` is how many times better
rawkit is, whichever way the unit runs; a peer that is not there is named with the reason as `missing`. A
script also runs alone. Lines of another shape are passed through. The results are kept in
build/benchmarks.jsonl, and `--write FILE` makes a page of all that are there, so that single scripts can
be run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from _report import HERE, load, page, parse, save, table
from rich.console import Console


def main() -> int:
    scripts = {path.stem: path for path in sorted(HERE.glob("*.py")) if not path.name.startswith("_")}
    parser = argparse.ArgumentParser(prog="python benchmarks", description="rawkit beside its peers")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(scripts)} (default: all)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a page for the documentation")
    options = parser.parse_args()
    names = options.names or list(scripts)
    if unknown := set(names) - scripts.keys():
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(scripts)}")
    records = []
    failed = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        done = subprocess.run([sys.executable, scripts[name]], stdout=subprocess.PIPE, text=True)
        found = []
        for line in done.stdout.splitlines():
            record = parse(line)
            if record is None:
                print(line)
            else:
                found.append(record)
        records += found
        if done.returncode == 0:
            save(found, name)
        else:
            failed.append(name)  # and keeps its earlier results
    # Without a terminal there is no width to fit: lines stay whole.
    Console(width=None if sys.stdout.isatty() else 150).print(table(records))
    for record in records:
        if "missing" in record:
            print(f"missing: {record['peer_name']} ({record['missing']})", file=sys.stderr)
    if options.write is not None:
        options.write.write_text(page(load()), encoding="utf-8")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
