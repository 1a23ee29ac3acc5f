"""Files and pictures about a run: `save(Run.of(result), "run.html")`, `show(Run.of(result))`.

Modules make the rest: `dissector` for Wireshark, `series` for the numbers behind the plots, `qlog`, `xpl`,
`capture`. These three names are imported when they are first used (docs/design/report.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.late import from_homes

if TYPE_CHECKING:
    from rawkit.report.files import save as save
    from rawkit.report.files import show as show
    from rawkit.report.run import Run as Run

_HOME_OF = {"Run": "rawkit.report.run", "save": "rawkit.report.files", "show": "rawkit.report.files"}

__all__ = list(_HOME_OF)


__getattr__ = from_homes(globals(), _HOME_OF)
