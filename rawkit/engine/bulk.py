"""`rawkit.transport.bulk`'s functions in C, which `rawkit.link` registers there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rawkit import _native

coalesce: Callable[[list[tuple[bytes, Any, int]], int, bytes], tuple[int, bytes]] = _native.coalesce
cut: Callable[[bytes, bytes, int, bytes], list[bytes]] = _native.cut
