"""The kernel's TCP as a run like any other: windows and round trips, sampled as it sends between two hosts.

`TCP_INFO` (tcp(7), linux/tcp.h) is read from the sending socket every few milliseconds, so that what lies
between two samples is not seen; packets are not looked at.
"""

from __future__ import annotations

import select
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rawkit.engine.native import monotonic_ns
from rawkit.errors import RawkitError
from rawkit.lab import Lab
from rawkit.transport.trace import Trace

_HEAD = struct.Struct("=8B24I")
_TAIL = struct.Struct("=4Q6IQ")
_NO_THRESHOLD = 0x7FFFFFFF  # TCP_INFINITE_SSTHRESH


class TcpInfo(NamedTuple):
    """What a TCP socket says of itself. Times are nanoseconds, sizes octets, rates bits per second."""

    state: int
    mss: int
    cwnd: int
    ssthresh: int
    """0 before the first loss."""
    in_flight: int
    """What was sent, less what was acknowledged or is taken for lost (RFC 6675's pipe)."""
    srtt_ns: int
    rttvar_ns: int
    min_rtt_ns: int
    rto_ns: int
    retransmissions: int
    """Segments, in all."""
    acked: int
    received: int
    pacing_bps: int
    delivery_bps: int

    @classmethod
    def parse(cls, octets: bytes) -> TcpInfo:
        """From the octets of the option; older kernels give fewer, which must reach to the delivery rate.

        Raises:
            RawkitError: there are too few.
        """
        if len(octets) < _HEAD.size + _TAIL.size:
            raise RawkitError(
                f"TCP_INFO of {len(octets)} octets: this kernel is too old (Linux 4.9 has more)"
            )
        head = _HEAD.unpack_from(octets)
        pacing, _, acked, received, _, _, _, min_rtt, _, _, delivery = _TAIL.unpack_from(octets, _HEAD.size)
        rto, _, mss, _, unacked, sacked, lost, retrans = head[8:16]
        srtt, rttvar, ssthresh, cwnd = head[23:27]
        return cls(
            state=head[0],
            mss=mss,
            cwnd=cwnd * mss,
            ssthresh=0 if ssthresh >= _NO_THRESHOLD else ssthresh * mss,
            in_flight=(unacked - sacked - lost + retrans) * mss,
            srtt_ns=srtt * 1000,
            rttvar_ns=rttvar * 1000,
            min_rtt_ns=min_rtt * 1000,
            rto_ns=rto * 1000,
            retransmissions=head[31],
            acked=acked,
            received=received,
            pacing_bps=pacing * 8,
            delivery_bps=delivery * 8,
        )

    @property
    def metrics(self) -> dict[str, float]:
        """By the names, and in the units, that endpoints of `rawkit.transport` use."""
        return {
            "cwnd": self.cwnd,
            "ssthresh": self.ssthresh,
            "in_flight": self.in_flight,
            "srtt": self.srtt_ns / 1e9,
            "rto": self.rto_ns / 1e9,
        }


def tcp_info(connection: socket.socket) -> TcpInfo:
    """What a TCP socket says of itself now.

    Raises:
        OSError: it is none of TCP, or closed.
        RawkitError: the kernel tells too little.
    """
    return TcpInfo.parse(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512))


@dataclass
class KernelRun:
    """What came of a transfer by the kernel's TCP; `trace` has its samples at "a", deliveries at "b"."""

    control: str
    octets: int
    began_ns: int = 0
    """By the monotonic clock; times of the trace count from here."""
    trace: Trace = field(default_factory=Trace)
    received: int = 0
    finished_ns: int | None = None
    last: TcpInfo | None = None
    samples: int = 0

    @property
    def goodput_bps(self) -> float:
        """Octets that arrived, as bits per second from the connection's beginning to the last of them."""
        return self.received * 8e9 / self.finished_ns if self.finished_ns else 0.0

    def metrics(self) -> dict[str, Any]:
        """The figures of the run, by name; times in seconds, rates in bits per second."""
        return {
            "octets": self.received,
            "complete": self.received == self.octets,
            "finished_s": None if self.finished_ns is None else self.finished_ns / 1e9,
            "goodput_bps": self.goodput_bps,
            "retransmissions": self.last.retransmissions if self.last else 0,
            "samples": self.samples,
        }


def kernel_transfer(
    lab: Lab,
    octets: int,
    *,
    control: str = "cubic",
    version: int = 4,
    port: int = 0,
    interval_ns: int = 2_000_000,
    timeout: float = 60.0,
) -> KernelRun:
    """Send octets from host a of a lab to host b by the kernel's TCP, with this congestion control.

    The control is set for the socket alone: the machine's default may be another. `port` is that of host b,
    0 for any. The sender is sampled every
    `interval_ns`, as far as the machine keeps up, for at most `timeout` seconds.

    Raises:
        OSError: the kernel has no such congestion control (ENOENT), or does not allow it (EPERM).
    """
    run = KernelRun(control, octets)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    address = str(lab.b.ipv4 if version == 4 else lab.b.ipv6)
    with lab.b:
        listener = socket.socket(family, socket.SOCK_STREAM)
        with listener:
            listener.bind((address, port))
            listener.listen(1)
            with lab.a:
                sender = socket.socket(family, socket.SOCK_STREAM)
            with sender:
                sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
                sender.settimeout(timeout)
                run.began_ns = monotonic_ns()
                sender.connect(listener.getsockname())
                receiver, _ = listener.accept()
                with receiver:
                    _drive(run, sender, receiver, interval_ns, timeout)
    return run


def _drive(
    run: KernelRun,
    sender: socket.socket,
    receiver: socket.socket,
    interval_ns: int,
    timeout: float,
) -> None:
    """Write and read as the sockets allow, and take samples in between, until all has arrived."""
    sender.setblocking(False)
    receiver.setblocking(False)
    left, piece, start_ns = run.octets, bytes(1 << 16), run.began_ns
    end_ns, sample_ns = start_ns + int(timeout * 1e9), start_ns
    while run.received < run.octets:
        now = monotonic_ns()
        if now >= end_ns:
            return
        if now >= sample_ns:
            run.last = tcp_info(sender)
            run.samples += 1
            run.trace.say(now - start_ns, "metric", "a", fields=run.last.metrics)
            sample_ns = now + interval_ns
        writing = [sender] if left else []
        readable, writable, _ = select.select([receiver], writing, [], max(sample_ns - now, 0) / 1e9)
        if writable:
            left -= sender.send(piece[:left] if left < len(piece) else piece)
        if readable:
            data = receiver.recv(1 << 18)
            run.received += len(data)
            run.finished_ns = monotonic_ns() - start_ns
            run.trace.say(run.finished_ns, "deliver", "b", octets=data)
    run.last = tcp_info(sender)
