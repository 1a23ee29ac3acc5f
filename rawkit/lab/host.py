"""One host of the lab."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Any

from rawkit.addr import MAC
from rawkit.engine.namespace import Namespace
from rawkit.errors import RawkitError, TargetError
from rawkit.lab import servers
from rawkit.lab.processes import Processes

_START_S = 10.0
"""How long the servers may take until they listen."""


def parse_services(text: str) -> list[str]:
    """The services in a list such as "http,echo", each once.

    Raises:
        TargetError: there is no such service.
    """
    names = dict.fromkeys(name.strip() for name in text.split(","))
    for name in names:
        if name not in servers.SERVICES:
            raise TargetError(f"there is no service {name!r}; there are: {', '.join(servers.SERVICES)}")
    return list(names)


class Host:
    """A host: a network namespace with a loopback and one interface, `veth0`.

    `with host:` moves the calling thread there for the length of the block; sockets opened inside belong to
    the host for good. Blocks nest, also with those of other hosts.
    """

    interface = "veth0"

    def __init__(
        self,
        name: str,
        ipv4: IPv4Address,
        ipv6: IPv6Address,
        mac: MAC,
        namespace: Namespace,
        processes: Processes,
    ) -> None:
        self.name = name
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.mac = mac
        self.namespace = namespace
        self._processes = processes
        self._entered = threading.local()

    def __enter__(self) -> Host:
        visit = self.namespace.enter()
        visit.__enter__()
        self._visits().append(visit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._visits().pop().__exit__(kind, error, traceback)

    def _visits(self) -> list[AbstractContextManager[None]]:
        """The blocks this thread is in, the innermost last."""
        if not hasattr(self._entered, "visits"):
            self._entered.visits = []
        visits: list[AbstractContextManager[None]] = self._entered.visits
        return visits

    def spawn(self, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """A process on this host; keyword arguments and exceptions are those of `subprocess.Popen`.

        It ends with the lab, and with this process however that dies.
        """
        return self._processes.spawn(argv, self.namespace, **popen)

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | bytes | None = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **popen: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command on this host to its end: `subprocess.run`, with its arguments and exceptions.

        `timeout` is in seconds.
        """
        if input is not None:
            popen["stdin"] = subprocess.PIPE
        if capture_output:
            popen["stdout"] = popen["stderr"] = subprocess.PIPE
        with self.spawn(argv, **popen) as process:
            try:
                output, errors = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        if check:
            done.check_returncode()
        return done

    def serve(self, services: str) -> subprocess.Popen[Any]:
        """Start servers: "http" (TCP port 80), "echo" (TCP and UDP port 7), or both, "http,echo".

        They listen, on IPv4 and IPv6, when this returns the process that runs them.

        Raises:
            TargetError: there is no such service.
            RawkitError: the servers did not start; their reason is on standard error.
        """
        names = parse_services(services)
        ready, write_end = os.pipe()
        try:
            # By its path, isolated and without site-packages: 20 ms to start instead of several times that.
            argv = [sys.executable, "-I", "-S", servers.__file__, ",".join(names), str(write_end)]
            process = self.spawn(argv, stdin=subprocess.DEVNULL, pass_fds=(write_end,))
            os.close(write_end)
            write_end = -1
            listening = select.select([ready], [], [], _START_S)[0] and os.read(ready, 1)
        finally:
            os.close(ready)
            if write_end >= 0:
                os.close(write_end)
        if not listening:
            process.kill()
            process.wait()
            raise RawkitError(f"the servers {services!r} on host {self.name} did not start")
        return process

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.ipv4} {self.ipv6} {self.mac}>"
