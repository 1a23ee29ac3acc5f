"""Ways to send frames at speed behind one interface: packet sockets, and XDP live frames.

docs/design/transmit.md says how they differ and what `backend="auto"` goes by.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self

from rawkit.engine.batch import FrameBatch
from rawkit.engine.native import check, deadline, ffi, lib, monotonic_ns, slice_end
from rawkit.engine.sockets import LINKTYPE_ETHERNET, Enterable, PacketSocket
from rawkit.errors import EngineError, PermissionDenied, UnknownInterface

BACKENDS = ("auto", "packet", "xdp")

FRAME_LEN: int = lib.RK_XDP_FRAME_LEN
"""Octets of the longest frame that the XDP backend carries."""

# Frames that go first, until the interface's counters have shown that its driver sends them, and how long
# that may take: virtual devices count at once, network cards report theirs now and then.
_PROOF_N = 16
_PROOF_SECONDS = 0.25

_RTM_GETSTATS = 94
_NEWSTATS = 92
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_STATS = struct.Struct("=BxxxII")  # struct if_stats_msg: family, interface, attributes wanted
_STATS64 = struct.Struct("=8Q")  # the first of struct rtnl_link_stats64


class InterfaceCounters(NamedTuple):
    """What an interface counted since it was made (rtnetlink(7), IFLA_STATS64)."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


class TransmitReport(NamedTuple):
    """What became of the frames given to a transmitter.

    `accepted` were taken by the kernel; `failed` counts refusals by errno; `before` and `after` are the
    interface's counters when it was opened and now, everybody else's frames included (None: it is gone).
    """

    backend: str
    reason: str
    accepted: int
    failed: Mapping[int, int]
    before: InterfaceCounters
    after: InterfaceCounters | None


class Transmitter(Protocol):
    """What every backend offers."""

    @property
    def backend(self) -> str:
        """The one in use: "packet" or "xdp"."""

    @property
    def reason(self) -> str:
        """Why it is that one."""

    def send_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """Send frames [first, first + n); how many were accepted. As `PacketSocket.send_batch`."""

    def report(self) -> TransmitReport:
        """What happened so far."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def open_transmitter(
    interface: str, backend: str = "auto", *, namespace: Enterable | None = None
) -> Transmitter:
    """Open `interface`, in `namespace` where one is given, for sending Ethernet frames.

    "auto" takes XDP live frames where they may be used and work: the interface's counters have to show the
    first of the caller's own frames; otherwise the packet socket sends these and all others. "xdp" raises
    then. Taps on the sending interface (tcpdump there) do not see live frames.

    Raises:
        ValueError: there is no such backend.
        UnknownInterface: there is no such interface.
        PermissionDenied: CAP_NET_RAW is missing, or for "xdp" CAP_SYS_ADMIN or CAP_NET_ADMIN.
        EngineError: anything else the kernel says; EOPNOTSUPP where it has no live frames.
    """
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")
    return _Transmitter(interface, backend, namespace)


class _LiveFrames:
    """An open `struct rk_xdp`."""

    def __init__(self, interface: str, ifindex: int) -> None:
        self.name = interface
        out = ffi.new("struct rk_xdp **")
        check(
            lib.rk_xdp_open(out, ifindex),
            "open XDP live frames",
            interface,
            needs="CAP_SYS_ADMIN and CAP_NET_ADMIN",
        )
        self._handle: Any = out[0]

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle:
            lib.rk_xdp_close(handle)

    def send_batch(self, batch: FrameBatch, first: int, n: int, timeout: float | None) -> int:
        if not self._handle:
            raise ValueError(f"the transmitter on {self.name} is closed")
        end_ns = deadline(timeout)
        done = 0
        while done < n:
            result = lib.rk_xdp_send(self._handle, batch.handle, first + done, n - done, slice_end(end_ns))
            if result > 0:
                done += result
            elif result != -errno.EINTR and done > 0:
                break  # the error meets the next call first
            elif result != -errno.EINTR:
                length = batch.handle.frames[first].cap_len
                hint = f"{length} octets" if result in (-errno.EMSGSIZE, -errno.EINVAL, -errno.EFBIG) else ""
                check(result, "send", self.name, hint=hint)
            if monotonic_ns() >= end_ns:
                break
        return done


class _Transmitter:
    """A packet socket, live frames, or live frames until they turn out not to work."""

    def __init__(self, interface: str, backend: str, namespace: Enterable | None) -> None:
        self._name = interface
        self._choice = backend
        self._accepted = 0
        self._failed: Counter[int] = Counter()
        self._proven = False
        self._live: _LiveFrames | None = None
        self._packet: PacketSocket | None = None
        self._rtnl: socket.socket | None = None
        self.reason = "asked for"
        try:
            with namespace.enter() if namespace is not None else nullcontext():
                try:
                    self._ifindex = socket.if_nametoindex(interface)
                except OSError:
                    raise UnknownInterface(f"open transmitter: there is no interface {interface}") from None
                self._rtnl = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
                if backend != "xdp":
                    # Also beside live frames: later there may be no privilege left to open it with.
                    self._packet = PacketSocket(interface, protocol=0)
                if backend != "packet":
                    self._open_live(interface)
            self._before = self._counters()
        except BaseException:
            self.close()
            raise

    def _open_live(self, interface: str) -> None:
        if self._packet is not None and self._packet.linktype != LINKTYPE_ETHERNET:
            self.reason = f"{interface} has no Ethernet frames, which live frames have to be"
            return
        try:
            self._live = _LiveFrames(interface, self._ifindex)
        except EngineError as error:
            if self._choice == "xdp":
                raise
            lacking = "lack of CAP_SYS_ADMIN or CAP_NET_ADMIN" if isinstance(error, PermissionDenied) else ""
            self.reason = f"no XDP live frames: {lacking or os.strerror(error.errno or 0)}"
        else:
            if self._choice == "auto":
                self.reason = "XDP live frames are allowed here; not yet proven"

    @property
    def backend(self) -> str:
        return "packet" if self._live is None else "xdp"

    def __repr__(self) -> str:
        return f"<transmitter on {self._name}: {self.backend}, {self.reason}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_rtnl", None) is not None:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def close(self) -> None:
        """Let go of everything. Closing twice is harmless."""
        for held in (self._live, self._packet, self._rtnl):
            if held is not None:
                held.close()
        self._rtnl = None

    def send_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """Send frames [first, first + n) of a batch (n None: all that follow); return how many were accepted.

        Raises:
            EngineError: the first frame was refused, as by `PacketSocket.send`; from "xdp" also EOPNOTSUPP
                where the interface throws live frames away, and EFBIG beyond FRAME_LEN octets.
            ValueError: the range is not in the batch, or the transmitter is closed.
        """
        held = len(batch)
        if n is None:
            n = held - first
        if first < 0 or n < 0 or first + n > held:
            raise ValueError(f"frames [{first}, {first + n}) of a batch that holds {held}")
        end_ns = deadline(timeout)
        done = 0
        try:
            if self._live is not None and not self._proven and n > 0:
                done = self._prove(batch, first, min(n, _PROOF_N), timeout)
            while done < n and (done == 0 or monotonic_ns() < end_ns):
                left = None if timeout is None else max(0.0, (end_ns - monotonic_ns()) / 1e9)
                accepted = self._send(batch, first + done, n - done, left)
                if accepted == 0:
                    break
                done += accepted
        except EngineError as error:
            self._failed[error.errno or 0] += 1
            if done == 0:
                raise
        finally:
            self._accepted += done
        return done

    def _send(self, batch: FrameBatch, first: int, n: int, timeout: float | None) -> int:
        if self._live is not None:
            try:
                return self._live.send_batch(batch, first, n, timeout)
            except EngineError as error:
                if self._packet is None or error.errno not in (errno.EFBIG, errno.EOPNOTSUPP):
                    raise
                self._fall_back(
                    f"a frame exceeds the {FRAME_LEN} octets of a live frame"
                    if error.errno == errno.EFBIG
                    else "this kernel has no XDP live frames"
                )
        if self._packet is None:
            raise ValueError(f"the transmitter on {self._name} is closed")
        return self._packet.send_batch(batch, first, n, timeout)

    def _prove(self, batch: FrameBatch, first: int, n: int, timeout: float | None) -> int:
        """Send the first frames and see whether the interface counts them; 0 when they have to go again."""
        before = self._counters().tx_packets
        accepted = self._send(batch, first, n, timeout)
        if accepted == 0 or self._live is None:
            return accepted
        end_ns = deadline(_PROOF_SECONDS)
        while (moved := self._counters().tx_packets - before) < accepted and monotonic_ns() < end_ns:
            time.sleep(0.001)
        if 2 * moved > accepted:  # a few may be somebody else's: IPv6 speaks unasked
            self._proven = True
            if self._choice == "auto":
                self.reason = f"XDP live frames work: the interface counted {moved} of the first {accepted}"
            return accepted
        problem = f"the interface counted {moved} of the first {accepted} live frames"
        if self._packet is None:
            raise EngineError(
                errno.EOPNOTSUPP, "send", self._name, f"{problem}; a veth peer needs GRO on (ethtool -K)"
            )
        self._fall_back(problem)
        return 0

    def _fall_back(self, reason: str) -> None:
        assert self._live is not None
        self._live.close()
        self._live = None
        self.reason = reason

    def report(self) -> TransmitReport:
        """What became of the frames so far. The interface may count the last ones a moment later."""
        try:
            after = self._counters()
        except UnknownInterface:
            after = None
        failed = MappingProxyType(dict(self._failed))
        return TransmitReport(self.backend, self.reason, self._accepted, failed, self._before, after)

    def _counters(self) -> InterfaceCounters:
        if self._rtnl is None:
            raise ValueError(f"the transmitter on {self._name} is closed")
        request = _STATS.pack(0, self._ifindex, 1)  # IFLA_STATS_LINK_64
        self._rtnl.send(_HEADER.pack(_HEADER.size + len(request), _RTM_GETSTATS, 1, 0, 0) + request)
        answer = self._rtnl.recv(4096)
        if _HEADER.unpack_from(answer)[1] != _NEWSTATS:
            error = struct.unpack_from("=i", answer, _HEADER.size)[0]  # struct nlmsgerr
            check(error, "read counters", self._name)
        # The one attribute that was asked for, behind its own header of 4 octets.
        return InterfaceCounters(*_STATS64.unpack_from(answer, _HEADER.size + _STATS.size + 4))
