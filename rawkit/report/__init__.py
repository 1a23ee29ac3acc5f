"""Files and pictures about a run: `save(Run.of(result), "run.html")`, `show(Run.of(result))`.

Modules make the rest: `dissector` for Wireshark, `series` for the numbers behind the plots, `qlog`, `xpl`,
`capture`. These three names are imported when they are first used (docs/design/report.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawkit.report.files import save as save
    from rawkit.report.files import show as show
    from rawkit.report.run import Run as Run

_HOME_OF = {"Run": "run", "save": "files", "show": "files"}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rawkit.report' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"rawkit.report.{_HOME_OF[name]}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value
