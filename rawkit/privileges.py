"""Giving up privileges for good, once everything that needs them is open."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rawkit.engine.native import check, lib
from rawkit.errors import PrivilegeError


def drop_privileges(user: str) -> None:
    """Become `user` (a name, or a number) with no capability left, and no way back; see capabilities(7).

    Supplementary groups, group and user change; the bounding, inheritable and ambient sets are cleared; no
    program that is started later can gain anything (no_new_privs). What is open stays open: sockets go on
    receiving and sending, files can be written. The result is read back from the kernel.

    Call it when sockets and output are open, and before the first packet is parsed. The process must have one
    thread, because capabilities belong to threads.

    Raises:
        PrivilegeError: there is no such user, it is root, or the process has several threads: nothing is
            changed. Or a step failed, or the kernel says that something is left: then some of it is dropped
            and some not, and the process should end.
    """
    uid, gid = _look_up(user)
    if len(os.listdir("/proc/self/task")) > 1:
        raise PrivilegeError(errno.EBUSY, "cannot drop privileges once there are threads: each has its own")
    with _step("clear the capability bounding set"):  # first: it needs a capability itself
        check(lib.rk_priv_drop_bounds(), "")
    with _step("leave all supplementary groups"):
        os.setgroups([])
    with _step(f"become group {gid}"):
        os.setresgid(gid, gid, gid)
    with _step(f"become user {user}"):
        os.setresuid(uid, uid, uid)
    with _step("give up all capabilities"):
        check(lib.rk_priv_drop_all(), "")
    _verify(uid, gid)


def _look_up(user: str) -> tuple[int, int]:
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise PrivilegeError(errno.EINVAL, f"there is no user {user!r}") from None
    if entry.pw_uid == 0 or entry.pw_gid == 0:
        raise PrivilegeError(errno.EINVAL, f"user {user!r} is root or of root's group: it has to be another")
    return entry.pw_uid, entry.pw_gid


@contextmanager
def _step(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PrivilegeError(error.errno or 0, f"cannot {what}: {os.strerror(error.errno or 0)}") from error


def _verify(uid: int, gid: int) -> None:
    """Read back what this thread may do, and try to become root again."""
    left = []
    with _step("see what is left"):
        # As UTF-8, because the user may be unable to read this Python, and for ASCII it imports something.
        lines = Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    expected = {"Uid": [str(uid)] * 4, "Gid": [str(gid)] * 4, "Groups": [], "NoNewPrivs": ["1"]}
    expected |= {f"Cap{kind}": ["0" * 16] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    for name, value in expected.items():
        if status.get(name) != value:
            left.append(f"{name} is {' '.join(status.get(name, ['unknown']))}")
    for name, regain in (("user", os.setuid), ("group", os.setgid)):
        try:
            regain(0)
        except PermissionError:
            continue
        left.append(f"could become root's {name} again")
    if left:
        raise PrivilegeError(errno.EPERM, f"privileges are left: {', '.join(left)}")
