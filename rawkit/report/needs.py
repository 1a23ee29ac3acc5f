"""Libraries that only plots need."""

from __future__ import annotations

from importlib.util import find_spec

from rawkit.errors import RawkitError


class MissingLibrary(RawkitError, ImportError):
    """A library is not installed; the message says what to install."""


def need(library: str) -> None:
    """Raise `MissingLibrary` where a library is not installed."""
    if find_spec(library) is None:
        raise MissingLibrary(f"plots need {library}: pip install 'rawkit[plots]'")
