"""The exceptions of rawkit: all descend from `RawkitError`, and each message names place and reason."""

from __future__ import annotations

import os


class RawkitError(Exception):
    """Anything rawkit itself reports."""


class HeaderError(RawkitError, ValueError):
    """Octets that are not the header they claim to be.

    `layer` is the name of the header class, `offset` the place in the packet, in octets from its start.
    """

    def __init__(self, message: str, layer: str = "", offset: int = 0) -> None:
        super().__init__(message)
        self.layer = layer
        self.offset = offset


class Truncated(HeaderError):
    """The octets end before the header does."""


class Malformed(HeaderError):
    """A field contradicts the octets around it."""


class FieldError(RawkitError, ValueError):
    """A value that a header field cannot hold; the message names the field, its width and the value."""


class SplitError(RawkitError, ValueError):
    """A packet that cannot be cut into fragments or segments of the size asked for."""


class CaptureFileError(RawkitError, ValueError):
    """A capture file is damaged or is none.

    `offset` is where in the file (octets from its start), `packet` how many packets were read before.
    """

    def __init__(self, message: str, path: str = "", offset: int = 0, packet: int = 0) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset
        self.packet = packet


class ProtocolError(RawkitError):
    """A rule of a transport protocol was broken."""


class LocalProtocolError(ProtocolError):
    """By this side: an endpoint's own code, or the application above it."""


class RemoteProtocolError(ProtocolError):
    """By the peer."""


class FilterError(RawkitError, ValueError):
    """A capture filter that does not compile."""


class TargetError(RawkitError, ValueError):
    """An address, prefix, range, port list or host name that does not make sense."""


class ExpressionError(RawkitError, ValueError):
    """A packet expression that does not make sense.

    `expression` is the text, `column` where in it (from 0) the fault is; the message has the reason, and
    under it the place with a caret.
    """

    def __init__(self, reason: str, expression: str = "", column: int = 0) -> None:
        # A window around the fault, so that a long expression does not wrap away from its caret.
        first = max(column - 60, 0)
        shown = "".join(c if c.isprintable() else "?" for c in expression[first : column + 40])
        dots = "..." if first else ""
        caret = " " * (len(dots) + column - first)
        super().__init__(f"{reason} (column {column + 1})\n  {dots}{shown}\n  {caret}^")
        self.reason = reason
        self.expression = expression
        self.column = column


class UnitError(RawkitError, ValueError):
    """A duration or ratio that does not make sense."""


class UnknownInterface(RawkitError, LookupError):
    """No interface has this name or index in the current network namespace."""


class EngineError(RawkitError, OSError):
    """The kernel refused an operation.

    `errno` is its reason, `operation` what was tried ("send"), `subject` on what ("veth0").
    """

    def __init__(self, errno: int, operation: str, subject: str = "", hint: str = "") -> None:
        message = f"{operation}{f' on {subject}' if subject else ''}: {os.strerror(errno)}"
        super().__init__(errno, f"{message}; {hint}" if hint else message)
        self.operation = operation
        self.subject = subject

    def __str__(self) -> str:
        return str(self.strerror)


class PermissionDenied(EngineError, PermissionError):
    """A capability is missing; the message names it and the command that grants it."""


class PrivilegeError(RawkitError, OSError):
    """Privileges could not be given up, or not all of them."""

    def __str__(self) -> str:
        return str(self.strerror)


class NoRoute(RawkitError, OSError):
    """The routing table has no way to a destination."""
