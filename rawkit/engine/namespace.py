"""Network namespaces held by nothing but a file descriptor.

A namespace here never gets a name in /run/netns: it lives as long as a descriptor, a socket or a process
keeps it, so that nothing is left behind however a program ends.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from warnings import warn

from rawkit.engine.native import check, lib
from rawkit.errors import EngineError, PermissionDenied

_CAP_SYS_ADMIN = 21  # <linux/capability.h>


class Namespace:
    """An open network namespace.

    Sockets belong to the namespace of the thread that opens them, for good: enter one, open, leave. Close it
    when done (it is a context manager too); sockets and processes inside keep the namespace itself alive.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        """Take over `fd`, a descriptor that refers to a network namespace."""
        self._fd = fd

    @classmethod
    def create(cls) -> Namespace:
        """A new, empty namespace; the calling thread stays where it is.

        Raises:
            PermissionDenied: CAP_SYS_ADMIN is missing (see `become_namespace_root`).
        """
        with cls.current() as here:
            _unshare_network()
            try:
                return cls.current()
            finally:
                here._enter()

    @classmethod
    def current(cls) -> Namespace:
        """The namespace that the calling thread is in."""
        return cls(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Be in this namespace for the length of the block; afterwards, back where the thread was before.

        Concerns the calling thread alone, and threads and processes that it starts inside. Blocks nest.
        """
        with Namespace.current() as before:
            self._enter()
            try:
                yield
            finally:
                before._enter()

    def _enter(self) -> None:
        check(
            lib.rk_ns_enter(self.fileno(), lib.RK_NS_NET), "enter a network namespace", needs="CAP_SYS_ADMIN"
        )

    def fileno(self) -> int:
        """The descriptor; it stays this object's.

        Raises:
            ValueError: the namespace is closed.
        """
        if self._fd < 0:
            raise ValueError("the namespace is closed")
        return self._fd

    def close(self) -> None:
        """Let go of the namespace. Closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Namespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._fd >= 0:
            warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    def __repr__(self) -> str:
        return f"<Namespace fd={self._fd}>" if self._fd >= 0 else "<Namespace closed>"


def become_namespace_root() -> None:
    """Make sure that this process may create network namespaces; does nothing when it may already.

    As an ordinary user, moves the process into a new user namespace, where it is root, and into a new, empty
    network namespace that belongs to it: from inside, the host's own network is out of reach for good. Files
    made afterwards still belong to the user outside. Root of a user namespace which is in a network namespace
    from outside of it (`unshare --user --map-root-user`) only gets the empty network namespace.

    Raises:
        PermissionDenied: the system allows no user namespaces; the message says which setting forbids them.
        EngineError: the process has several threads (EINVAL).
    """
    if _has_capability(_CAP_SYS_ADMIN):
        with Namespace.current() as here:
            lost = lib.rk_ns_enter(here.fileno(), lib.RK_NS_NET) < 0
        if lost:
            # One could leave a network namespace from outside, but not come back.
            _unshare_network()
        return
    uid, gid = os.geteuid(), os.getegid()
    operation = "make a user namespace"
    threads = _threads()
    if threads > 1:
        # The kernel's own answer is a bare EINVAL (user_namespaces(7)).
        raise EngineError(
            errno.EINVAL, operation, hint=f"this process has {threads} threads; do it before any is started"
        )
    _refuse(lib.rk_ns_unshare(lib.RK_NS_USER | lib.RK_NS_NET), operation)
    try:
        # A group map may only be written by an ordinary user once setgroups is denied (user_namespaces(7)).
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    except OSError as error:
        _refuse(-(error.errno or errno.EPERM), operation)


def _threads() -> int:
    """The kernel's threads of this process. One that Python has joined may be on its way out still."""
    end = time.monotonic() + 0.1
    while (threads := len(os.listdir("/proc/self/task"))) > 1:
        if threading.active_count() > 1 or time.monotonic() > end:
            break
        time.sleep(0.001)
    return threads


def _unshare_network() -> None:
    check(
        lib.rk_ns_unshare(lib.RK_NS_NET),
        "make a network namespace",
        needs="CAP_SYS_ADMIN",
        hint="sysctl user.max_net_namespaces sets how many there may be",
    )


def _refuse(result: int, operation: str) -> None:
    """Raise what a failed system call means, with the settings that may be to blame; nothing on success."""
    if result >= 0:
        return
    # ENOSPC is the answer to a limit of zero, too (user_namespaces(7)).
    forbidden = result in (-errno.EPERM, -errno.EACCES, -errno.ENOSPC)
    raise (PermissionDenied if forbidden else EngineError)(-result, operation, hint=_user_namespace_hint())


def _user_namespace_hint() -> str:
    """Which setting forbids user namespaces to ordinary users, and what allows them."""
    for key, forbidding, allowing in (
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),  # Ubuntu 23.10 and later
        ("kernel.unprivileged_userns_clone", "0", "1"),  # older Debian
        ("user.max_user_namespaces", "0", "15000"),
    ):
        with suppress(OSError):
            with open("/proc/sys/" + key.replace(".", "/"), encoding="ascii") as file:
                value = file.read().strip()
            if value == forbidding:
                return f"sysctl {key} is {value}: `sudo sysctl -w {key}={allowing}`, or run as root"
    return (
        "user namespaces are not allowed here (user.max_user_namespaces, kernel.unprivileged_userns_clone, "
        "apparmor, or the container's own rules): run as root"
    )


def _has_capability(number: int) -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False


def _write(path: str, text: str) -> None:
    # One system call without buffering: the kernel takes a map in one write, and only once.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
