"""Packets of an IP protocol of one's own, straight on IP: no ports, no NAT in between, CAP_NET_RAW."""

from __future__ import annotations

import errno
import os
import socket

from rawkit.engine.batch import FrameBatch
from rawkit.engine.sockets import RawIPSocket
from rawkit.errors import EngineError, TargetError
from rawkit.link.carrier import (
    AT_ONCE,
    BUFFER_LEN,
    Carrier,
    Flow,
    Heads,
    Pairs,
    Trouble,
    finished,
    ip_header,
    read_icmp,
    set_buffer,
)
from rawkit.link.firewall import MARK, FirewallRule, somebody_listens
from rawkit.link.guard import GUARDED, Guard
from rawkit.transport.events import Path

_WAIT_S = 0.005
"""How long sending waits for room in the socket's buffer; after that the packet is lost here. Not long:
packets to neighbours that do not answer fill it too, and all exchanges wait meanwhile.
"""
_ARENA_LEN = 1 << 20
_SO_MARK = 36  # <asm-generic/socket.h>


class RawIP(Carrier):
    """An IP protocol number, 253 and 254 being those for experiments (RFC 3692, RFC 4727).

    The kernel finds routes and neighbours and puts fragments together; it never fragments what is sent here
    (the IPv4 header says "don't"), so that the path's MTU is the endpoint's to heed. While this is open
    the kernel answers nothing to packets of the protocol; where it has the protocol itself (TCP, UDP) that
    is so for ports of exchanges and listeners, which guards hold; with `firewall` an nftables rule takes the
    place of a guard that cannot, because another socket has the port and does not listen, or a right is
    missing. `local` binds it to one address, `filter` is a tcpdump expression for what is wanted besides
    that. Network cards do not spread unknown protocols
    over processors, and do not segment for them.

    Raises:
        PermissionDenied: CAP_NET_RAW is missing.
        TargetError: a bad address or number.
    """

    name = "raw"

    def __init__(
        self,
        number: int = 253,
        local: str = "",
        *,
        version: int | None = None,
        filter: str = "",
        firewall: bool = False,
        buffer_len: int = BUFFER_LEN,
    ) -> None:
        if not 0 < number < 255:
            raise TargetError(f"{number} is no protocol number that packets can be sent with")
        super().__init__(local, version, number)
        self.header_len = 20 if self.version == 4 else 40
        wanted = [f"dst host {self.local}"] if self.local else []
        wanted += [f"({filter})"] if filter else []
        about = (
            f"(icmp[0] = 3 or icmp[0] = 11 or icmp[0] = 12) and icmp[17] = {number}"
            if self.version == 4
            else f"icmp6 and ip6[40] < 5 and ip6[54] = {number}"
        )
        self._socket = RawIPSocket(
            self.version, number, filter=" and ".join(wanted) or None, buffer_len=buffer_len
        )
        try:
            self._errors = RawIPSocket(self.version, 1 if self.version == 4 else 58, filter=about)
        except BaseException:
            self._socket.close()
            raise
        with socket.socket(fileno=os.dup(self._socket.fileno())) as same:
            set_buffer(same, sending=True, octets=buffer_len)
        self._socket.ignore_path_mtu()  # the endpoint knows its path; the kernel may have been lied to
        self._firewall = firewall
        self._guards: dict[int, tuple[Guard | FirewallRule, int]] = {}
        self._in = FrameBatch(AT_ONCE, _ARENA_LEN)
        self._out = FrameBatch(AT_ONCE, _ARENA_LEN)
        self._queue: list[bytes] = []
        self._paths: list[Path] = []
        self._pairs = Pairs()
        self._heads = Heads(self._head)

    @property
    def silence(self) -> str:  # type: ignore[override]
        """What keeps the kernel from answering, as it is now."""
        if self.number not in GUARDED:
            return "the open raw socket"
        ruled = sorted(port for port, (guard, _) in self._guards.items() if isinstance(guard, FirewallRule))
        rules = f", and nftables rules on {', '.join(map(str, ruled))}" if ruled else ""
        return f"guard sockets on its ports{rules}"

    def _head(self, path: Path, ecn: int) -> bytes:
        more = {"flags": "DF", "ecn": ecn} if self.version == 4 else {"traffic_class": ecn}
        return bytes(ip_header(path.local, path.remote, self.number, **more))

    def descriptors(self) -> list[int]:
        return [self._socket.fileno(), self._errors.fileno()]

    def receive(self) -> list[tuple[bytes, Flow, int]]:
        flow = self._pairs.flow
        batch = self._in
        if self._errors.receive(batch, 0):
            for packet in batch:
                trouble = read_icmp(packet, self.number)
                if trouble is not None:
                    self.troubles.append(trouble)
        if not self._socket.receive(batch, 0):
            return []
        if self.version == 4:
            found = [(p[(p[0] & 15) * 4 :], p[12:20], p[1] & 3) for p in batch]
        else:
            found = [(p[40:], p[8:40], p[1] >> 4 & 3) for p in batch]
        if self.number in GUARDED:
            found = [(finished(octets, pair, self.number), pair, ecn) for octets, pair, ecn in found]
        return [(octets, flow(pair), ecn) for octets, pair, ecn in found]

    def send(self, octets: bytes, path: Path, ecn: int) -> None:
        self._queue.append(self._heads.head(path, ecn) + octets)
        self._paths.append(path)
        if len(self._queue) == AT_ONCE:
            self.flush()

    def flush(self) -> None:
        queue, paths = self._queue, self._paths
        if not queue:
            return
        self._queue, self._paths = [], []
        if sum(map(len, queue)) > _ARENA_LEN:  # of a loopback, or jumbo frames
            for packet, path in zip(queue, paths):
                self._send_out([packet], [path])
        else:
            self._send_out(queue, paths)

    def _send_out(self, queue: list[bytes], paths: list[Path]) -> None:
        batch = self._out
        batch.clear()
        batch.extend(queue)
        first, n = 0, len(queue)
        while first < n:
            try:
                sent = self._socket.send_batch(batch, first, timeout=_WAIT_S)
            except EngineError as error:
                self._refused(paths[first], len(queue[first]), error)
                sent = 1  # that one is lost
            else:
                if sent == 0:
                    self.lost["send buffer full"] += n - first
                    return
            first += sent

    def _refused(self, path: Path, length: int, error: EngineError) -> None:
        if error.errno in (errno.EAGAIN, errno.ENOBUFS):
            self.lost["send buffer full"] += 1
            return
        self.lost["refused"] += 1
        flow = Flow(path.local, path.local_port, path.remote, path.remote_port)
        most = 0
        if error.errno == errno.EMSGSIZE:
            most = min(self.way_mtu(path), length - 1)
        self.troubles.append(Trouble(flow, b"", os.strerror(error.errno or errno.EIO), most))

    def claim(self, port: int) -> bool:
        if self.number not in GUARDED:
            return True
        guard, claims = self._guards.get(port, (None, 0))
        if guard is None:
            try:
                with self._at_home():
                    guard = self._keep_silent(port)
            except EngineError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                return False
        self._guards[port] = guard, claims + 1
        return True

    def _keep_silent(self, port: int) -> Guard | FirewallRule:
        try:
            return Guard(self.number, port, self.local, version=self.version)
        except EngineError as error:
            taken = error.errno == errno.EADDRINUSE
            # A program that has a UDP port, or listens, answers itself: no rule about the kernel helps.
            answered = taken and (self.number == socket.IPPROTO_UDP or somebody_listens(port))
            if not self._firewall or answered or not (taken or error.errno == errno.EACCES):
                raise
        rule = FirewallRule(self.number, port, self.local, version=self.version)
        with socket.socket(fileno=os.dup(self._socket.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, _SO_MARK, MARK)
        return rule

    def release(self, port: int) -> None:
        guard, claims = self._guards.get(port, (None, 0))
        if guard is not None and claims > 1:
            self._guards[port] = guard, claims - 1
        elif guard is not None:
            guard.close()
            del self._guards[port]

    def count_overflow(self) -> None:
        self.lost["overflow"] = self._socket.counters().dropped

    def forget(self, path: Path) -> None:
        self._heads.forget(path)

    def _close(self) -> None:
        for guard, _ in self._guards.values():
            guard.close()
        self._guards.clear()
        self._socket.close()
        self._errors.close()
        super()._close()
