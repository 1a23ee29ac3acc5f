"""Reading what commands print with --json, by a parser that takes nothing but JSON."""

from __future__ import annotations

import json
from typing import Any


def strict(text: str) -> list[dict[str, Any]]:
    """JSON lines by a parser that takes no NaN and no name twice."""

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return [
        json.loads(line, parse_constant=no_constant, object_pairs_hook=once) for line in text.splitlines()
    ]
