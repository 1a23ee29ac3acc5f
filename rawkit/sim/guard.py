"""While a simulation runs, the outside world raises: the wall clock, global randomness, sockets.

Endpoints that reach for them would differ from run to run, and would not work elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rawkit.errors import LocalProtocolError

FORBIDDEN = {
    "time": "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns sleep",
    "random": "random randint randrange choice choices shuffle sample uniform gauss expovariate getrandbits",
    "socket": "socket create_connection",
    "os": "urandom",
}
"""What raises, by module. Names that a module took before (`from time import time`) are out of reach."""


def _refusal(name: str) -> Callable[..., Any]:
    def refuse(*arguments: Any, **keywords: Any) -> Any:
        raise LocalProtocolError(f"{name} in a simulated endpoint: take cx.now, cx.rng and cx.send instead")

    return refuse


_REFUSALS = {
    (module, name): _refusal(f"{module}.{name}")
    for module, names in FORBIDDEN.items()
    for name in names.split()
}


@contextmanager
def outside_forbidden() -> Iterator[None]:
    """For the length of the block, what `FORBIDDEN` lists raises `LocalProtocolError`."""
    kept = []
    for (module, name), refusal in _REFUSALS.items():
        home = sys.modules.get(module)  # what is not loaded nobody has
        if home is not None and getattr(home, name, refusal) is not refusal:
            kept.append((home, name, getattr(home, name)))
            setattr(home, name, refusal)
    try:
        yield
    finally:
        for home, name, original in kept:
            setattr(home, name, original)
