"""Craft, send, capture, replay and invent packets.

The names below are the public ones. Each is imported from its module when it is first used (PEP 562), so that
`import rawkit` costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawkit.addr import MAC as MAC
    from rawkit.addr import TargetSet as TargetSet
    from rawkit.addr import parse_ports as parse_ports
    from rawkit.addr import parse_target as parse_target
    from rawkit.errors import CaptureFileError as CaptureFileError
    from rawkit.errors import EngineError as EngineError
    from rawkit.errors import FieldError as FieldError
    from rawkit.errors import FilterError as FilterError
    from rawkit.errors import HeaderError as HeaderError
    from rawkit.errors import Malformed as Malformed
    from rawkit.errors import NoRoute as NoRoute
    from rawkit.errors import PermissionDenied as PermissionDenied
    from rawkit.errors import RawkitError as RawkitError
    from rawkit.errors import TargetError as TargetError
    from rawkit.errors import Truncated as Truncated
    from rawkit.errors import UnknownInterface as UnknownInterface

__version__ = "0.1.0"

_HOMES = {
    "rawkit.addr": "MAC TargetSet parse_ports parse_target",
    "rawkit.errors": "CaptureFileError EngineError FieldError FilterError HeaderError Malformed NoRoute"
    " PermissionDenied RawkitError TargetError Truncated UnknownInterface",
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rawkit' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
