"""The counters of a running scan, shared by whoever sends, whoever receives and the summary."""

from __future__ import annotations

from collections import Counter


class Tally:
    """What `ScanSummary` says, while it is still growing."""

    def __init__(self) -> None:
        self.states: Counter[str] = Counter()  # of the ports that became known
        self.probes = self.duplicates = self.dropped = self.refused = 0
        self.found: list[int] = []  # answers to each round's probes
        self.rounds = 0  # of the board that had the fewest, of those that kept unanswered rows
        self.unanswered = 0
        self.resumed = False
