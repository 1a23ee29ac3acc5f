"""A stack that a thread of its own drives: endpoints go on while the application does something else."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rawkit.engine.aio import wait_readable
from rawkit.engine.native import monotonic_ns
from rawkit.link.carrier import Carrier
from rawkit.link.stack import Stack
from rawkit.transport.endpoint import Endpoint

FOREVER_NS = 2**62
SETTLE_NS = 5 * 10**9
"""How long closing a carrier, or the end of the program, waits for what was written to arrive."""

_services: weakref.WeakKeyDictionary[Carrier, Service] = weakref.WeakKeyDictionary()
_making = threading.Lock()


class Service:
    """Drives a stack from a thread. Whatever touches the stack or its endpoints holds `lock`.

    One carrier has one service, which ends when the carrier is closed.
    """

    def __init__(
        self, carrier: Carrier, protocol: type[Endpoint], *, ports: bool = False, bulk: bool = False
    ) -> None:
        self.stack = Stack(carrier, protocol, ports=ports, bulk=bulk)
        self.lock = threading.RLock()
        self.failure: BaseException | None = None
        """What ended the thread: a mistake in a protocol, or an interface that is gone."""
        self.waiters: weakref.WeakSet[threading.Condition] = weakref.WeakSet()
        """Who waits for something, to be woken when the thread ends."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._over = False
        self.stack.on_stir = self._stir
        carrier.at_close.append(self._end)
        self._thread = threading.Thread(target=self._run, name=f"rawkit {carrier.name}", daemon=True)
        self._thread.start()

    @contextmanager
    def hold(self) -> Iterator[Stack]:
        """The stack, for as long as the block takes; afterwards what was asked for is sent."""
        with self.lock:
            yield self.stack
            if not self._over:
                self.stack.carrier.flush()

    def _stir(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        descriptors = [*self.stack.carrier.descriptors(), self._wake]
        try:
            while not self._over:
                with self.lock:
                    if self._over:
                        return
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                    busy = self.stack.step()
                    due = self.stack.next_ns
                # Even when there is more to do: others want the lock.
                wait_readable(descriptors, 0 if busy else FOREVER_NS if due is None else due)
        except BaseException as error:  # told to whoever waits, or asks next
            self.failure = error
        finally:
            with self.lock:
                self._over = True
                for waiter in self.waiters:
                    waiter.notify_all()

    def settle(self, end_ns: int) -> None:
        """Wait until all exchanges that the application has closed are over, as with the kernel's sockets
        when a program ends; not for ever.
        """
        while not self._settled() and monotonic_ns() < end_ns:
            time.sleep(0.005)

    def _end(self) -> None:
        self.settle(monotonic_ns() + SETTLE_NS)
        self._over = True
        self._stir()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        os.close(self._wake)

    @property
    def over(self) -> bool:
        """Whether nothing happens any more."""
        return self._over

    def _settled(self) -> bool:
        with self.lock:
            # What has no timer running has nothing to repeat.
            return self._over or not any(
                driver.timers
                for driver in self.stack.drivers.values()
                if getattr(driver.app, "closing", False)
            )


def service_of(
    carrier: Carrier, protocol: type[Endpoint], *, ports: bool = False, bulk: bool = False
) -> Service:
    """The carrier's service, made when it is first wanted: its first user's wishes count."""
    with _making:
        found = _services.get(carrier)
        if found is None:
            found = _services[carrier] = Service(carrier, protocol, ports=ports, bulk=bulk)
        return found


@atexit.register
def _settle_all() -> None:
    end_ns = monotonic_ns() + SETTLE_NS
    for service in list(_services.values()):
        service.settle(end_ns)
