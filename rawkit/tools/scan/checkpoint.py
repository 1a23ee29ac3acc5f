"""Where a SYN scan stands, in a file, so that it can go on after whatever ended it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

from rawkit.errors import RawkitError
from rawkit.tools.scan.config import ScanConfig

SCHEMA = "rawkit.scan-state/1"
_EVERY_NS = 100_000_000


@dataclass(frozen=True)
class Progress:
    """All boards before the one of part `part` that begins at position `first` are done; of that one,
    `states` has what is known of each row, and `cursor` is where round `round` has come to. `seed` is the
    order. `counts` are the results told so far.
    """

    seed: int
    part: int
    first: int
    round: int
    cursor: int
    states: bytes
    counts: dict[str, int]


class Checkpoint:
    """A scan's state in a file that is replaced as a whole every 100 ms.

    `flush` is called before, and has to bring all results that were taken from the scan to safety: what the
    file counts as done will not be told again.
    """

    def __init__(self, path: str | os.PathLike[str], flush: Callable[[], object] = lambda: None) -> None:
        self.path = os.fspath(path)
        self._flush = flush
        self._due_ns = 0

    def load(self, config: ScanConfig) -> Progress | None:
        """Where the scan stood, None when it has not begun.

        Raises: `RawkitError` for a file that is no state, or that of another scan.
        """
        try:
            with open(self.path, encoding="ascii") as file:
                state: dict[str, Any] = json.load(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RawkitError(f"{self.path}: {error.strerror}") from None
        except ValueError:
            raise RawkitError(f"{self.path}: is no state of a scan") from None
        if not isinstance(state, dict) or state.get("schema") != SCHEMA:
            raise RawkitError(f"{self.path}: is no state of a scan ({SCHEMA})")
        if state.get("scan") != _fingerprint(config):
            raise RawkitError(f"{self.path}: belongs to a scan of other targets, ports or options")
        try:
            states = zlib.decompress(base64.b64decode(state["states"]))
            return Progress(
                **{field.name: state[field.name] for field in fields(Progress)} | {"states": states}
            )
        except (KeyError, TypeError, ValueError, zlib.error):
            raise RawkitError(f"{self.path}: the state of the scan is damaged") from None

    def is_due(self, now_ns: int) -> bool:
        return now_ns >= self._due_ns

    def save(self, config: ScanConfig, progress: Progress, now_ns: int) -> None:
        """Raises: `RawkitError` when the file cannot be written."""
        self._flush()
        states = base64.b64encode(zlib.compress(progress.states, 1)).decode("ascii")
        state = {"schema": SCHEMA, "scan": _fingerprint(config), **asdict(progress), "states": states}
        try:
            with open(f"{self.path}.new", "w", encoding="ascii") as file:
                json.dump(state, file)
            os.replace(f"{self.path}.new", self.path)
        except OSError as error:
            raise RawkitError(f"{self.path}: {error.strerror}") from None
        self._due_ns = now_ns + _EVERY_NS

    def remove(self) -> None:
        """The scan is complete."""
        for path in (self.path, f"{self.path}.new"):
            if os.path.exists(path):
                os.unlink(path)


def _fingerprint(config: ScanConfig) -> str:
    """Equal for scans that send the same probes in the same parts."""
    spans = [tuple(span) for span in config.targets.spans]
    what = (spans, sorted(config.ports), config.kind, config.shard, config.interface, config.seed)
    return hashlib.sha256(repr(what).encode()).hexdigest()
