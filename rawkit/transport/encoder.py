"""From a header's values to the octets of a packet in one step, for protocols that send many.

`Header(...)` and packing it do the same in two, with an object in between. What the short way cannot do goes
the long way, so both give the same octets and raise the same errors.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from rawkit.transport.events import Path
from rawkit.wire import checksum
from rawkit.wire.field import AUTO, ChecksumRule, FlagBits, Rule, UInt
from rawkit.wire.generate import Plan, compile_into
from rawkit.wire.header import Header

Encoder = Callable[..., bytes]
"""A method `encode(path, payload, **fields)`: the octets of a packet, lengths and checksum filled in."""


def encoder(header: type[Header]) -> Encoder:
    """A method, which CPython calls faster than a function in a class, that makes packets with this header.

    It takes the path, for checksums over addresses, the payload, and the header's fields by name; it raises
    what the header class and packing raise (`FieldError`).
    """

    def slowly(self: Any, path: Path, payload: bytes, /, **fields: Any) -> bytes:
        return header(**fields)._pack(payload, path.lower, None) + payload

    plan: Plan = header._plan
    if not _is_simple(plan):
        return slowly
    # Underscores, because the fields are the function's parameters and may have any name.
    names: dict[str, Any] = {
        "_pack": plan.layout.pack,
        "_struct_error": struct.error,
        "_checksum": checksum,
        "_slowly": slowly,
    }
    compile_into(
        names, _source(plan, names), f"<rawkit encoder of {header.__module__}.{header.__qualname__}>"
    )
    encode: Encoder = names["encode"]
    return encode


def _is_simple(plan: Plan) -> bool:
    """Whether `struct` alone checks the values, and one Internet checksum over everything is all there is."""
    rules = [row.spec.rule for row in plan.fields]
    sums = [rule for rule in rules if isinstance(rule, ChecksumRule)]
    return (
        not plan.moving
        and {"payload_len", "header_len"}.isdisjoint(row.name for row in plan.fields)
        and plan.size % 2 == 0  # so that the payload can be summed by itself
        and all(unit.is_field and isinstance(unit.rows[0].kind, (UInt, FlagBits)) for unit in plan.units)
        and all(rule is None or isinstance(rule, (Rule, ChecksumRule)) for rule in rules)
        and len(sums) == 1
        and not (sums[0].pseudo_header or sums[0].coverage or sums[0].skips[1] or sums[0].absent_when)
        and bool(sums[0].payload)
    )


def _source(plan: Plan, names: dict[str, Any]) -> list[str]:
    required: list[str] = []
    defaulted: list[str] = []
    values: list[str] = []
    computed: list[str] = []
    special = []  # fields that are filled in, and a list at the end: a value for one is for the long way
    for row in plan.fields:
        names[f"_default_{row.name}"] = row.spec.default
        if row.spec.default is ...:
            required.append(row.name)
        else:
            defaulted.append(f"{row.name}=_default_{row.name}")
        rule = row.spec.rule
        if rule is not None or row.spec.default is AUTO or row is plan.variable:
            special.append(row.name)
        if isinstance(rule, ChecksumRule):
            summed, zero = len(values), rule.zero
            values.append("0")
        elif isinstance(rule, Rule):
            computed.append(f"_f_{row.name} = {rule.build}")
            values.append(f"_f_{row.name}")
        elif row is not plan.variable:
            values.append("0" if row.spec.default is AUTO else row.name)
    fields = ", ".join(f"{row.name}={row.name}" for row in plan.fields)
    slowly = f"return _slowly(_self, _path, _payload, {fields})"
    with_sum = ", ".join([*values[:summed], f"_value or {zero}" if zero else "_value", *values[summed + 1 :]])
    lengths = {"payload_len": "len(_payload)", "header_len": plan.size}
    lines = [
        f"if {' or '.join(f'{name} is not _default_{name}' for name in special)}:",
        f"    {slowly}",
        *(f"{name} = {value}" for name, value in lengths.items() if any(name in line for line in computed)),
        *computed,
        "try:",
        f"    _octets = _pack({', '.join(values)})",
        "    _value = 0xFFFF ^ _checksum.add(_checksum.add(0, _octets), _payload)",
        f"    return _pack({with_sum}) + _payload",
        "except (_struct_error, TypeError):",
        "    pass",
        slowly,
    ]
    # Not behind a `*`: each default of a parameter that must be named is looked up in a dictionary.
    head = f"def encode(_self, _path, _payload, /, {', '.join([*required, *defaulted])}):"
    return [head, *("    " + line for line in lines)]
