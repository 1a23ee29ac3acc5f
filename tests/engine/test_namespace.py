"""Namespaces held by a descriptor: entered by one thread, left again, gone with the descriptor."""

from __future__ import annotations

import gc
import os
import threading

import pytest

from rawkit.engine.namespace import Namespace, become_namespace_root

pytestmark = pytest.mark.net


def here() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def test_enter_leave_nest() -> None:
    home = here()
    with Namespace.create() as first, Namespace.create() as second:
        assert here() == home
        with first.enter():
            inside = here()
            with second.enter():
                assert len({home, inside, here()}) == 3
                with first.enter():
                    assert here() == inside
            assert here() == inside
        assert here() == home


def test_leaves_after_an_exception() -> None:
    home = here()
    with Namespace.create() as namespace, pytest.raises(ZeroDivisionError), namespace.enter():
        raise ZeroDivisionError
    assert here() == home


def test_concerns_one_thread_only() -> None:
    home = here()
    seen: dict[str, str] = {}
    with Namespace.create() as namespace:
        entered, looked = threading.Event(), threading.Event()

        def visit() -> None:
            with namespace.enter():
                seen["visitor"] = here()
                entered.set()
                looked.wait(5)

        visitor = threading.Thread(target=visit)
        visitor.start()
        assert entered.wait(5)
        seen["main"] = here()
        looked.set()
        visitor.join()
        with namespace.enter():
            assert seen == {"visitor": here(), "main": home}


def test_a_thread_starts_where_its_parent_is() -> None:
    seen = []
    with Namespace.create() as namespace, namespace.enter():
        thread = threading.Thread(target=lambda: seen.append(here()))
        thread.start()
        thread.join()
        assert seen == [here()]


def test_nothing_but_the_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with Namespace.create() as namespace:
            assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="closed"):
        namespace.fileno()
    with pytest.raises(ValueError, match="closed"), namespace.enter():
        pass
    namespace.close()


def test_forgotten() -> None:
    before = len(os.listdir("/proc/self/fd"))

    def forget() -> None:
        Namespace.create()
        gc.collect()

    with pytest.warns(ResourceWarning, match="unclosed <Namespace fd="):
        forget()
    assert len(os.listdir("/proc/self/fd")) == before


def test_root_stays_where_it_is() -> None:
    home, user = here(), os.readlink("/proc/self/ns/user")
    become_namespace_root()
    assert (here(), os.readlink("/proc/self/ns/user")) == (home, user)
