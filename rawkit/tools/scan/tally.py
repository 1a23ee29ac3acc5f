"""The counters of a running scan, shared by whoever sends, whoever receives and the summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """What `ScanSummary` says, while it is still growing."""

    states: Counter[str] = field(default_factory=Counter)  # of the ports that became known
    probes: int = 0
    duplicates: int = 0
    dropped: int = 0
    refused: int = 0
    found: list[int] = field(default_factory=list)  # answers to each round's probes
    rounds: int = 0  # of the board that had the fewest, of those that kept unanswered rows
    unanswered: int = 0
    resumed: bool = False
