"""Changes to the kernel's tables by way of pyroute2, which takes 0.1 s to import: for the lab."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from rawkit.errors import EngineError, PermissionDenied

T = TypeVar("T")


def ask(question: Callable[[Any], T], operation: str) -> T:
    """What `question` makes of a `pyroute2.IPRoute` opened in the calling thread's network namespace.

    Raises:
        PermissionDenied: the kernel wants CAP_NET_ADMIN for this.
        EngineError: it refused for another reason; `errno` is its code.
    """
    from errno import EACCES, EPERM

    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    def answer() -> T:
        try:
            # Groups 0: no subscription to changes. Extended acknowledgements carry the kernel's own words.
            with IPRoute(groups=0, ext_ack=True) as socket:
                return question(socket)
        except NetlinkError as error:
            reason = str(error.args[1]) if len(error.args) > 1 else ""
            if error.code in (EPERM, EACCES):
                raise PermissionDenied(
                    error.code, operation, hint="needs CAP_NET_ADMIN: run as root"
                ) from error
            raise EngineError(error.code, operation, hint=reason) from error

    # IPRoute runs an event loop, and a thread can run but one. A new thread starts in the namespace of the
    # one that starts it.
    if _loop_is_running():
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as executor:
            return executor.submit(answer).result()
    return answer()


def _loop_is_running() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
