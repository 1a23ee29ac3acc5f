"""Protocols that other distributions add: modules named by entry points of the group `rawkit.protocols`.

    [project.entry-points."rawkit.protocols"]
    courier = "courier.wire"

The module is imported when a number or a name is first looked for and not found; its header classes register
themselves, as any others. A module that cannot be imported, or claims a number that is taken, is an error
that names the distribution; it is raised again at each such look-up, so that packets are not read one way now
and another way later.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from rawkit.errors import RawkitError

GROUP = "rawkit.protocols"


class State:
    """Whether the extensions were looked for, what went wrong, and whether they are all there."""

    looked = False
    error: RawkitError | None = None
    complete = False


def load_extensions() -> None:
    """Import the modules of all extensions, once.

    Raises: `RawkitError`, as often as it is called, when one of them cannot be used.
    """
    if not State.looked:
        State.looked = True  # first: while they are imported, they look up numbers themselves
        try:
            _load()
            State.complete = True
        except RawkitError as error:
            State.error = error
    if State.error is not None:
        raise State.error


def _load() -> None:
    if not _any_announced():
        return
    from importlib.metadata import entry_points

    by_name: dict[str, Any] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        other = by_name.setdefault(point.name, point)
        if other.value != point.value:
            raise RawkitError(f"two extensions are called {point.name!r}: {_text(other)} and {_text(point)}")
        try:
            import_module(point.module)
        except Exception as error:
            raise RawkitError(f"extension {_text(point)} cannot be used: {error}") from error


def _text(point: Any) -> str:
    name = getattr(point.dist, "name", None)
    return f"{point.name} = {point.value}" + (f" of the distribution {name}" if name else "")


def _any_announced() -> bool:
    """Whether a file of entry points on the path mentions the group.

    importlib.metadata would say so too, but importing it takes thirty times as long as this look.
    """
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")
        except OSError:
            if os.path.isfile(place):
                return True  # an archive: let importlib.metadata look into it
            continue
        for entry in entries:
            if not entry.endswith((".dist-info", ".egg-info")):
                continue
            try:
                with open(os.path.join(place, entry, "entry_points.txt"), "rb") as file:
                    if GROUP.encode() in file.read():
                        return True
            except OSError:
                continue
    return False
