"""Files that appear under their name when they are complete, and not before."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rawkit.errors import CaptureFileError, EngineError


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Give the name of a file beside `path` to write to; it becomes `path` at the end, in one step.

    When writing fails there is no new file, and the old one is as it was. A file that could not be read to
    its end (`CaptureFileError`) has been written up to there, and that stays. "-" and what is no regular
    file, such as a device or a pipe, is written to at once.

    Raises OSError for a symbolic link when this process is root: another user may own the directory.
    """
    if path == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        yield path
        return
    if os.path.islink(path):
        if os.geteuid() == 0:
            raise OSError(errno.ELOOP, "is a symbolic link, which is not followed as root", path)
        path = os.path.realpath(path)
    folder, name = os.path.split(path)
    beside = os.path.join(folder, f".{os.urandom(4).hex()}-{name}")  # with the ending, which says what it is
    try:
        yield beside
    except CaptureFileError:
        if os.path.exists(beside):
            os.replace(beside, path)
        raise
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(beside)
        if isinstance(error, EngineError) and error.subject == beside:
            raise EngineError(error.errno or errno.EIO, error.operation, path) from None
        if isinstance(error, OSError) and error.filename == beside:
            raise OSError(error.errno, error.strerror, path) from None
        raise
    os.replace(beside, path)
