"""The counters of a running scan, shared by whoever sends, whoever receives and the summary."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """What `ScanSummary` says, while it is still growing."""

    probes: int = 0
    closed: int = 0  # ports that were only counted
    duplicates: int = 0
    dropped: int = 0
    refused: int = 0
