"""The compiled module and what every user of it needs: error translation, clocks, deadlines."""

from __future__ import annotations

import errno
from collections.abc import Callable

from rawkit.errors import EngineError, PermissionDenied, UnknownInterface

try:
    from rawkit._native import ffi, lib, send_now
except ModuleNotFoundError as error:
    if error.name != "rawkit._native":
        raise
    raise ImportError(
        "rawkit's compiled engine is missing: this is the source tree, run `make` first"
    ) from error

__all__ = [
    "FOREVER_NS", "SLICE_NS", "check", "deadline", "ffi", "lib", "monotonic_ns", "realtime_ns",
    "seconds_until", "send_now",
]  # fmt: skip

FOREVER_NS = 2**63 - 1
"""The deadline of a call that has none."""

SLICE_NS = 100_000_000
"""The longest time spent in C before Python may run its signal handlers, in nanoseconds."""

monotonic_ns: Callable[[], int] = lib.rk_monotonic_ns
realtime_ns: Callable[[], int] = lib.rk_realtime_ns


def deadline(timeout: float | None) -> int:
    """The moment `timeout` seconds from now, in nanoseconds of the monotonic clock; None is never.

    Raises:
        ValueError: the timeout is negative or no number.
    """
    if timeout is None:
        return FOREVER_NS
    if not timeout >= 0:
        raise ValueError(f"timeout is {timeout}; it must be 0 or more seconds, or None")
    return int(min(monotonic_ns() + timeout * 1e9, FOREVER_NS))


def seconds_until(end_ns: int) -> float | None:
    """What is left until a deadline, as a timeout."""
    return None if end_ns == FOREVER_NS else max(0.0, (end_ns - monotonic_ns()) / 1e9)


def slice_end(deadline_ns: int) -> int:
    """When the next call into C must return: at the deadline, but no later than one slice from now."""
    return min(deadline_ns, monotonic_ns() + SLICE_NS)


def check(result: int, operation: str, subject: str = "", *, needs: str = "", hint: str = "") -> int:
    """Return `result` when it is a success; else raise what the negative errno means.

    `operation` is what was tried ("open packet socket"), `subject` on what ("veth0"), `needs` the
    capability whose lack the kernel reports as EPERM or EACCES ("CAP_NET_RAW"), or "ping_group_range".

    Raises:
        PermissionDenied: EPERM or EACCES, and `needs` was given.
        UnknownInterface: ENODEV.
        EngineError: anything else.
    """
    if result >= 0:
        return result
    if needs and result in (-errno.EPERM, -errno.EACCES):
        raise PermissionDenied(
            -result, operation, subject, _ping_hint() if needs == "ping_group_range" else _hint(needs)
        )
    if result == -errno.ENODEV:
        raise UnknownInterface(f"{operation}: there is no interface {subject}")
    raise EngineError(-result, operation, subject, hint)


def _hint(capability: str) -> str:
    text = f"needs {capability}: run as root"
    if capability == "CAP_NET_RAW":
        text += ", or inside `rawkit lab run`; `rawkit doctor` has a command line that grants it alone"
    return text


def _ping_hint() -> str:
    key = "net.ipv4.ping_group_range"
    try:
        with open("/proc/sys/" + key.replace(".", "/"), encoding="ascii") as file:
            value = " ".join(file.read().split())
    except OSError:
        value = "unknown"
    return (
        f'your group must be within sysctl {key}, which is "{value}": '
        f"`sudo sysctl -w {key}='0 2147483647'`, or use a raw socket, which {_hint('CAP_NET_RAW')}"
    )
