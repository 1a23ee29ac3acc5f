"""One function for the headers that most packets start with.

Going from one header to the next costs about as much as parsing it. Where classes say that they are `common`,
their parsers are therefore put into one function, one in the other, for each class that a packet may start
with: Ethernet, then IPv4 or IPv6, then TCP or UDP. It stops before whatever is not common or not whole, and
parsing goes on from there header by header, which also says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rawkit.wire import storage
from rawkit.wire.generate import compile_into, parse_lines

if TYPE_CHECKING:
    from rawkit.wire.header import Header

Walk = Callable[[Any, int, list["Header"]], tuple[int, int]]
"""`walk(octets, end, layers)` adds headers; it gives where they end, and where what they carry ends."""


def make_walk(first: type[Header]) -> Walk:
    """The function for packets that start with `first`, which keeps it."""
    if first._table is not None and _is_common(first):
        _join(first, set())
        first._walk = first._table.walk
        return first._walk
    names: dict[str, Any] = {"new": storage.blank}
    lines = ["def walk(buf, end, layers):", "    offset = 0"]
    if _is_common(first):
        _add(first, (), lines, names)
    lines.append("    return offset, end")
    compile_into(names, lines, f"<rawkit walk from {first.__module__}.{first.__qualname__}>")
    walk: Walk = names["walk"]
    first._walk = walk
    return walk


def _join(cls: type[Header], done: set[type[Header]]) -> None:
    """Tell the compiled module's table of a class, and those of the classes that follow, what follows."""
    done.add(cls)
    followers = {
        n: upper for n, upper in cls.uppers.items() if _is_common(upper) and upper._table is not None
    }
    names = [row.name for row in cls.fields]
    selector = names.index(cls.selected_by[0]) if cls.selected_by else -1
    opaque = names.index(cls.opaque_when) if cls.opaque_when else -1
    cls._table.follow(selector, opaque, {number: upper._table for number, upper in followers.items()})
    for upper in set(followers.values()) - done:
        _join(upper, done)


def _is_common(cls: type[Header]) -> bool:
    return "common" in vars(cls) and cls.common


def _add(cls: type[Header], path: tuple[type[Header], ...], lines: list[str], names: dict[str, Any]) -> None:
    """Add source for `cls` after the headers of `path`, and for what may follow it."""
    path = (*path, cls)
    indent = "    " * len(path)
    this, tag, plan = f"h{len(path)}", f"_{cls.__name__}", cls._plan
    names |= {f"cls{tag}": cls, f"unpack{tag}": plan.layout.unpack_from}
    body = parse_lines(plan, cls.ends_packet, this, tag, lambda *problem: "return offset, end")
    body += [f"layers.append({this})", "offset = header_end", "end = payload_end"]
    followers = {n: upper for n, upper in cls.uppers.items() if _is_common(upper) and upper not in path}
    if followers:
        slot = {row.name: row.slot for row in cls.fields}
        if cls.opaque_when:
            body += [f"if {this}.{slot[cls.opaque_when]}:", "    return offset, end"]
        body.append(f"number = {this}.{slot[cls.selected_by[0]]}")
    lines += [indent + line for line in body]
    for number, upper in followers.items():
        lines.append(f"{indent}if number == {number}:")
        _add(upper, path, lines, names)
        lines.append(f"{indent}    return offset, end")
