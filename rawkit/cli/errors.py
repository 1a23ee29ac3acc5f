"""Exit statuses, and the one place where an exception becomes a line on standard error."""

from __future__ import annotations

import os
import sys

import click

from rawkit.cli.output import escape, status
from rawkit.errors import ExpressionError, RawkitError

SUCCESS = 0
NEGATIVE = 1  # no reply, a difference: the command did its job and the answer is no
USAGE = 2  # options, targets, files or circumstances that do not allow the job
UNEXPECTED = 70  # a mistake of ours (EX_SOFTWARE of sysexits.h)
NO_PERMISSION = 77  # (EX_NOPERM)
INTERRUPTED = 130  # by SIGINT, as shells count it


def report(error: BaseException, command: str) -> int:
    """Say on standard error, in one line, why `command` ("rawkit ping") ended; returns its exit status.

    RAWKIT_DEBUG=1 in the environment adds the traceback.
    """
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    if isinstance(error, click.UsageError) and error.ctx:
        command = error.ctx.command_path  # the innermost one: "rawkit lab run"
    message, code = _explain(error)
    if os.environ.get("RAWKIT_DEBUG", "") not in ("", "0"):
        import traceback

        status("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, ExpressionError):  # below the reason there is the place, with a caret under it
        status(f"{command}: {escape(message, lines=True)}")
    else:
        status(f"{command}: {escape(' '.join(message.split()))}")
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    if isinstance(error, click.UsageError):
        help_line = f"; see '{error.ctx.command_path} --help'" if error.ctx else ""
        return f"{error.format_message().rstrip('.')}{help_line}", USAGE
    if isinstance(error, click.ClickException):
        return error.format_message(), USAGE
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError) and not isinstance(error, RawkitError):
        place = f"{error.filename}: " if error.filename is not None else ""
        # A file that may not be read is a wrong argument; a socket that may not be opened lacks a capability.
        lacking = isinstance(error, PermissionError) and error.filename is None
        return f"{place}{error.strerror or error}", NO_PERMISSION if lacking else USAGE
    if isinstance(error, RawkitError):
        return str(error), NO_PERMISSION if isinstance(error, PermissionError) else USAGE
    kind = type(error).__name__
    return (
        f"unexpected {kind}: {error} (this is a mistake in rawkit: please report it, with what it prints "
        "under RAWKIT_DEBUG=1)",
        UNEXPECTED,
    )


def settle_stdout() -> OSError | None:
    """Flush standard output; the error if that fails, after which Python's own at exit succeeds."""
    try:
        sys.stdout.flush()
    except OSError as error:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
        return error
    return None
