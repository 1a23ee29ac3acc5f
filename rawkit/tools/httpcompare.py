"""Whether two streams of HTTP/1 answers say the same: status and content, whatever other fields they have."""

from __future__ import annotations

from email.parser import BytesHeaderParser
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import Any, cast


class _Octets:
    """What `HTTPResponse` wants of a socket."""

    def __init__(self, stream: BytesIO) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> BytesIO:
        return self._stream


class _Kept(BytesIO):
    """A stream that the end of one answer does not close."""

    def close(self) -> None:
        pass


def methods_of(requests: bytes) -> list[str]:
    """The methods of a client's requests, as far as they can be told apart (RFC 9112)."""
    methods = []
    while requests:
        head, end, rest = requests.partition(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        words = line.split(b" ")
        if not end or len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            break
        methods.append(words[0].decode("ascii", "replace"))
        length = BytesHeaderParser().parsebytes(fields).get("content-length", "0").strip()
        if not length.isdecimal():
            break
        requests = rest[int(length) :]
    return methods


def answers_of(methods: list[str], octets: bytes) -> list[tuple[int, bytes]] | None:
    """Status and content of each answer in a stream, transfer codings undone; None where it is no HTTP/1."""
    stream = _Kept(octets)
    answers = []
    for number in range(len(octets)):
        if stream.tell() == len(octets):
            break
        if not octets.startswith(b"HTTP/1.", stream.tell()):
            return None
        method = methods[number] if number < len(methods) else "GET"
        answer = HTTPResponse(cast(Any, _Octets(stream)), method=method)
        try:
            answer.begin()
            answers.append((answer.status, answer.read()))
        except (HTTPException, ValueError):
            return None
    return answers


def first_difference(wanted: bytes, came: bytes) -> int:
    """Up to where two are the same."""
    pairs = enumerate(zip(wanted, came))
    return next((at for at, (old, new) in pairs if old != new), min(len(wanted), len(came)))


def differing_answers(requests: bytes, wanted: bytes, came: bytes) -> str | None:
    """In what answers differ, "" where they say the same; None when not both are HTTP/1, whole."""
    methods = methods_of(requests)
    before, after = answers_of(methods, wanted), answers_of(methods, came)
    if not methods or before is None or after is None:
        return None
    for number, ((status, content), (new_status, new_content)) in enumerate(zip(before, after), 1):
        if status != new_status:
            return f"answer {number} has status {new_status} instead of {status}"
        if content != new_content:
            at = first_difference(content, new_content)
            return (
                f"the content of answer {number} differs from octet {at} on "
                f"({len(new_content)} octets instead of {len(content)})"
            )
    if len(before) != len(after):
        return f"{len(after)} answers instead of {len(before)}"
    return ""
