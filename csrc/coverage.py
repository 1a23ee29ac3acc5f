"""Lines of the engine that a run reached: `python csrc/coverage.py BUILD_DIR [PERCENT]`; see `make coverage`.

Every program of the build has counts of its own for a source file; a line counts as reached when one of them
reached it. Prints a line for each file with the lines that nobody reached, and fails below PERCENT.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import groupby
from pathlib import Path

ENGINE = Path(__file__).resolve().parent


def main() -> int:
    build = Path(sys.argv[1]).resolve()
    wanted = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    lines = reached_lines(build)
    reached_n = total_n = 0
    for source in sorted([*ENGINE.glob("rk_*.[ch]"), *ENGINE.glob("fields_*.c")]):
        counts = lines.get(source, {})
        missed = sorted(line for line, reached in counts.items() if not reached)
        total_n += len(counts)
        reached_n += len(counts) - len(missed)
        if counts:
            percent = 100 * (1 - len(missed) / len(counts))
            print(f"{source.name:<17} {percent:5.1f} % of {len(counts):4} lines; not {ranges(missed) or '-'}")
    if not total_n:
        print(f"no counts in {build}: was it built with -Db_coverage=true, and run?", file=sys.stderr)
        return 2
    percent = 100 * reached_n / total_n
    print(f"{percent:.1f} % of {total_n} lines of C are reached; {wanted:g} % are asked for")
    return 0 if percent >= wanted else 1


def reached_lines(build: Path) -> dict[Path, dict[int, bool]]:
    """For each source file, its lines that have code, and whether one of the programs ran it."""
    lines: dict[Path, dict[int, bool]] = {}
    for counts in build.rglob("*.gcda"):
        done = subprocess.run(
            ["gcov", "--json-format", "--stdout", counts],
            capture_output=True,
            text=True,
            check=True,
            cwd=build,
        )
        for document in done.stdout.splitlines():
            for file in json.loads(document)["files"]:
                known = lines.setdefault((build / file["file"]).resolve(), {})
                for line in file["lines"]:
                    number = line["line_number"]
                    known[number] = known.get(number, False) or line["count"] > 0
    return lines


def ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as "1-3 7"."""
    runs = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        runs.append(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]))
    return " ".join(runs)


if __name__ == "__main__":
    sys.exit(main())
