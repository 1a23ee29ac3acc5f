"""A process that, when it ends, takes along everything it started: what `rawkit lab run` runs in."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from rawkit.engine.namespace import become_namespace_root
from rawkit.engine.native import check, lib
from rawkit.errors import EngineError

SignalMask = set[int | signal.Signals]

_SI_KERNEL = 0x80  # <asm-generic/siginfo.h>: sent by the kernel itself, here by the terminal
_FORWARDED = {signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP}
_FROM_TERMINAL = {signal.SIGINT, signal.SIGQUIT}


def run_contained(body: Callable[[], int]) -> int:
    """Run `body` in a forked process; its result becomes that process's exit status, returned here.

    The process is the first of a new PID namespace, with (where permitted) a /proc to match. When it ends,
    for whatever reason, the kernel kills all that it started; when this process ends, for whatever reason,
    the kernel kills it. This process must have one thread, and can do nothing afterwards but end: its own
    children would land in the dead namespace.

    Raises:
        PermissionDenied, EngineError: namespaces are not allowed here; the message says by what.
    """
    become_namespace_root()
    check(
        lib.rk_ns_unshare(lib.RK_NS_PID),
        "make a process namespace",
        needs="CAP_SYS_ADMIN",
    )
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored by some parents; then nothing could be waited for
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    read_end, write_end = os.pipe()

    def start(mask: SignalMask) -> int:
        child = os.fork()
        if child == 0:
            os.close(write_end)
            _be_first(body, read_end, mask)
        os.close(read_end)
        return child

    try:
        return supervise(start)
    finally:
        os.close(write_end)


def _be_first(body: Callable[[], int], alive: int, mask: SignalMask) -> None:
    """The life of the first process; does not return. `alive` reads end-of-file once the launcher is dead."""
    status = 70  # a mistake of ours (EX_SOFTWARE of sysexits.h)
    try:
        # From inside a PID namespace, a parent outside has no number. The request comes before the look at
        # the pipe, so that there is no moment in which the launcher could die unnoticed.
        check(lib.rk_ns_die_with_parent(0), "tie a process to its parent")
        if select.select([alive], [], [], 0)[0]:
            os._exit(0)
        for number in _heeded() - {signal.SIGINT}:  # Python itself turns SIGINT into KeyboardInterrupt
            # The kernel keeps from a first process every signal that it has no handler for.
            signal.signal(number, _end)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        with suppress(EngineError):
            # Refused in containers that hide parts of /proc. Then ps shows the processes outside: no more.
            check(lib.rk_ns_unshare(lib.RK_NS_MOUNT), "make a mount namespace")
            check(lib.rk_ns_mount_proc(), "mount /proc")
        status = body()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except Exception:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(status)


def _heeded() -> set[signal.Signals]:
    """The signals to pass on: without those that this process was told to ignore, as nohup(1) does."""
    return {number for number in _FORWARDED if signal.getsignal(number) is not signal.SIG_IGN}


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def supervise(start: Callable[[SignalMask], int]) -> int:
    """Wait for a child, pass signals on to it, and reap whatever else ends; returns the child's exit status.

    `start` makes the child and returns its process id. Signals are held already while it does, so that none
    is lost; the child must put back the signal mask that `start` is given.

    A child that a signal ended has 128 and the signal's number, as in a shell. Ctrl-C and Ctrl-\\ are not
    passed on: the terminal sends them to all processes in the foreground, the child among them. Signals to
    this process have no other effect until the child's end.
    """
    forwarded = _heeded()
    watched = {*forwarded, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        child = start(before)
        while True:
            signalled = signal.sigwaitinfo(watched)
            number = signal.Signals(signalled.si_signo)
            by_terminal = number in _FROM_TERMINAL and signalled.si_code == _SI_KERNEL
            if number in forwarded and not by_terminal:
                os.kill(child, number)
            # After any signal: the ends of several processes may be told by one.
            with suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    if ended[0] == child:
                        code = os.waitstatus_to_exitcode(ended[1])
                        return code if code >= 0 else 128 - code
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
