"""What commands write: JSON lines and text on standard output, everything else on standard error."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex
import sys
from collections.abc import Mapping, Set
from enum import Enum
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from rich.console import Console

# C0, DEL, C1, the bidirectional overrides that reorder what a reader sees, lone surrogates.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str, lines: bool = False) -> str:
    """`text` with everything that could steer a terminal shown as \\x1b; `lines` lets newlines through.

    Whatever comes out of a packet or a file passes through here before a terminal sees it.
    """
    if lines:
        return "\n".join(map(escape, text.split("\n")))
    return _CONTROLS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def counted(number: int, thing: str) -> str:
    """A number of things: "1 packet", "2 packets"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def refuse_overwriting(path: str, source: str) -> None:
    """Raise before the file being read is emptied in order to be written."""
    if os.path.exists(path) and os.path.exists(source) and os.path.samefile(path, source):
        raise click.UsageError(f"{path} is the file being read")


def typed_command() -> str:
    """What was typed to start this process, for files that say how they were made."""
    return shlex.join(["rawkit", *sys.argv[1:]])


def emit(text: str = "") -> None:
    """Write a line of data to standard output, at once: it may be a pipe with a reader who waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def status(text: str) -> None:
    """Write a line for the person at the terminal to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def console(*, stderr: bool = False) -> Console:
    """A rich console: colour only on a terminal and without NO_COLOR, no markup in the text it is given."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


class JsonLines:
    """Writes one JSON object per line.

    The first is `{"type": "header", "schema": "rawkit.<command>/<version>"}`.

    The schema's version goes up when a field changes its meaning or goes away, not when one is added.
    """

    def __init__(self, command: str, version: int = 1, stream: TextIO | None = None) -> None:
        import json

        self._stream = stream
        self._encode = json.JSONEncoder(allow_nan=False).encode
        self.write("header", schema=f"rawkit.{command}/{version}")

    def write(self, type: str, /, **fields: object) -> None:
        """Write one object and flush it.

        Octets become hexadecimal digits, addresses and paths their text, dataclasses objects, and a float
        that JSON has no word for (NaN, infinity) null.
        """
        stream = self._stream or sys.stdout
        record = {"type": type} | {name: plain(value) for name, value in fields.items()}
        stream.write(self._encode(record) + "\n")
        stream.flush()


_AS_THEY_ARE = frozenset({type(None), bool, int, str})


def plain(value: object) -> Any:
    """`value` as the dicts, lists, text and numbers that JSON has."""
    # First what nearly all of a packet's fields are.
    if type(value) in _AS_THEY_ARE or isinstance(value, str):
        return value
    if isinstance(value, (dict, Mapping)):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value.hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Set):
        return sorted((plain(item) for item in value), key=str)
    return str(value)
