"""Small HTTP and echo servers for a host of the lab: servers.py SERVICES READY_FD.

A program of its own that needs nothing but the standard library, so that it starts in a few hundredths of a
second. Writes one octet to READY_FD once it listens, on IPv4 and IPv6 alike, and runs until it is killed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable

HTTP_PORT = 80
ECHO_PORT = 7  # RFC 862

IDLE_S = 60.0
"""A connection on which nothing happens for so long is closed."""

LINGER_S = 1.0
MAX_LINGER = 64
"""How long a client may be silent, and how often it may send, after a connection's last answer."""

MAX_REQUEST = 16 * 1024  # octets of a request's head

PAGE = (
    b"<!doctype html>\n<html><head><title>rawkit lab</title></head><body>\n<h1>rawkit lab</h1>\n<ol>\n"
    + b"".join(b"<li>%d packets on the wire, %d packets of wire</li>\n" % (n, n) for n in range(99, 27, -1))
    + b"</ol>\n</body></html>\n"
)


CONTENT = {b"/": PAGE, b"/large": PAGE * 16}
"""What there is to fetch: a page of one burst, and one long enough to show TCP at work."""


def answer(head: bytes) -> tuple[bytes, bool]:
    """The response to a request's head (RFC 9112), and whether to keep the connection.

    Anything but GET and HEAD is refused and ends the connection, because its content,
    which is never read, would be taken for the next request.
    """
    lines = head.split(b"\r\n")
    words = lines[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        return _response(b"400 Bad Request", b"this is no HTTP/1 request\n", False, True), False
    method, path, version = words
    path = path.partition(b"?")[0]
    fields = [line.lower().partition(b":") for line in lines[1:]]
    options = {
        option.strip() for name, _, value in fields if name == b"connection" for option in value.split(b",")
    }
    keep = b"keep-alive" in options if version == b"HTTP/1.0" else b"close" not in options
    if method not in (b"GET", b"HEAD"):
        return _response(
            b"405 Method Not Allowed", b"only GET and HEAD\n", False, True, b"Allow: GET, HEAD\r\n"
        ), False
    status, content = (b"200 OK", CONTENT[path]) if path in CONTENT else (b"404 Not Found", b"not here\n")
    return _response(status, content, keep, method == b"GET"), keep


def _response(status: bytes, content: bytes, keep: bool, with_content: bool, extra: bytes = b"") -> bytes:
    kind = b"text/html" if content in CONTENT.values() else b"text/plain"
    head = (
        b"HTTP/1.1 %b\r\nContent-Type: %b; charset=utf-8\r\nContent-Length: %d\r\nConnection: %b\r\n%b\r\n"
        % (
            status,
            kind,
            len(content),
            b"keep-alive" if keep else b"close",
            extra,
        )
    )
    return head + content if with_content else head


def serve_http(connection: socket.socket) -> None:
    """Answer the requests of one connection, one after the other, until it is to be closed."""
    received = b""
    keep = True
    while keep:
        while b"\r\n\r\n" not in received:
            more = connection.recv(4096)
            if not more:
                return
            received += more
            if len(received) > MAX_REQUEST:
                connection.sendall(_response(b"431 Request Header Fields Too Large", b"", False, True))
                return
        head, _, received = received.partition(b"\r\n\r\n")
        response, keep = answer(head.lstrip(b"\r\n"))
        connection.sendall(response)


def serve_echo(connection: socket.socket) -> None:
    """Send back what arrives, until the other end has said everything (RFC 862)."""
    while octets := connection.recv(65536):
        connection.sendall(octets)


def echo_datagrams(listener: socket.socket) -> None:
    """Send each datagram back to where it came from (RFC 862)."""
    while True:
        try:
            octets, sender = listener.recvfrom(65536)
            if sender[1] != ECHO_PORT:  # two echo servers would talk for ever
                listener.sendto(octets, sender)
        except OSError:
            continue  # an ICMP error about an earlier datagram


def accept(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve each connection in a thread of its own."""

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(IDLE_S)
                serve(connection)
                # Closing with octets unread would reset the connection, and the answer with it (RFC 9112
                # section 9.6).
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(LINGER_S)
                for _ in range(MAX_LINGER):
                    if not connection.recv(65536):
                        break
            except OSError:
                pass  # reset, or idle for too long: the client's affair

    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            continue  # gone again before it was accepted
        threading.Thread(target=talk, args=(connection,), daemon=True).start()


def listen(port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket for both families: IPv4 peers appear under mapped addresses (RFC 4291 section 2.5.5.2)."""
    listener = socket.socket(socket.AF_INET6, kind)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if kind == socket.SOCK_STREAM:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        listener.listen(128)
    return listener


SERVICES: dict[str, list[tuple[int, socket.SocketKind, Callable[[socket.socket], None]]]] = {
    "http": [(HTTP_PORT, socket.SOCK_STREAM, lambda listener: accept(listener, serve_http))],
    "echo": [
        (ECHO_PORT, socket.SOCK_STREAM, lambda listener: accept(listener, serve_echo)),
        (ECHO_PORT, socket.SOCK_DGRAM, echo_datagrams),
    ],
}
"""Name of a service to its sockets: port, kind, and what to do with each, without returning."""


def main(services: str, ready_fd: int) -> None:
    """Start the services (names joined by commas), say so on `ready_fd`, and stay."""
    sockets = [
        (listen(port, kind), run) for name in services.split(",") for port, kind, run in SERVICES[name]
    ]
    for listener, run in sockets:
        threading.Thread(target=run, args=(listener,), daemon=True).start()
    os.write(ready_fd, b".")
    os.close(ready_fd)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
