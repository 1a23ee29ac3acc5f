"""Durations, rates and ratios as people type them: "20ms", "1.5s", "1%".

>>> parse_duration("20ms"), parse_duration(0.02)
(20000000, 20000000)
>>> parse_rate("1.5Mbit/s")
1500000
>>> parse_ratio("0.5%")
0.005
"""

from __future__ import annotations

import re

from rawkit.errors import UnitError

_NANOSECONDS = {
    "": 10**9,
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "min": 60 * 10**9,
    "h": 3600 * 10**9,
}
_MAX_NS = 2**63 - 1
_QUANTITY = re.compile(r"(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})\s*([^\d\s.]*)", re.ASCII)
_EXAMPLES = {"duration": "20ms or 1.5s", "rate": "10Mbit/s or 1.5Gbit/s", "ratio": "1% or 0.01"}


def parse_duration(text: str | int | float) -> int:
    """Nanoseconds in a duration: a number and a unit (ns, us, ms, s, min, h); without a unit, seconds.

    Digits beyond a nanosecond are dropped.

    Raises:
        UnitError: no number, an unknown unit, a negative duration, or more than 2**63 - 1 ns (292 years).
    """
    number, of, unit = _split(text, "duration")
    if unit == "µs":
        unit = "us"
    if unit not in _NANOSECONDS:
        hint = "; minutes are 'min'" if unit == "m" else ""
        units = ", ".join(filter(None, _NANOSECONDS))
        raise UnitError(f"bad duration {text!r}: unknown unit {unit!r}, expected one of {units}{hint}")
    duration_ns = number * _NANOSECONDS[unit] // of
    if duration_ns > _MAX_NS:
        raise UnitError(f"bad duration {text!r}: longer than 292 years")
    return duration_ns


_BITS_PER_SECOND = {"": 1, "bit/s": 1, "kbit/s": 10**3, "Mbit/s": 10**6, "Gbit/s": 10**9, "Tbit/s": 10**12}


def parse_rate(text: str | int | float) -> int:
    """Bits per second in a rate: a number and bit/s, kbit/s, Mbit/s, Gbit/s or Tbit/s, in powers of ten.

    Raises:
        UnitError: no number, an unknown unit, or less than 1 bit/s.
    """
    number, of, unit = _split(text, "rate")
    if unit not in _BITS_PER_SECOND:
        units = ", ".join(filter(None, _BITS_PER_SECOND))
        raise UnitError(f"bad rate {text!r}: unknown unit {unit!r}, expected one of {units}")
    rate_bps = number * _BITS_PER_SECOND[unit] // of
    if rate_bps < 1:
        raise UnitError(f"bad rate {text!r}: must be at least 1 bit/s")
    return rate_bps


def parse_ratio(text: str | int | float) -> float:
    """A ratio between 0 and 1, from "1%" or from 0.01.

    Raises:
        UnitError: no number, an unknown unit, or a ratio outside 0..1.
    """
    number, of, unit = _split(text, "ratio")
    if unit not in ("", "%"):
        raise UnitError(f"bad ratio {text!r}: unknown unit {unit!r}, expected % or none")
    of *= 100 if unit else 1
    if number > of:
        hint = f"; did you mean {text}%?" if not unit else ""
        raise UnitError(f"bad ratio {text!r}: must be between 0 and 1 (0% and 100%){hint}")
    return number / of


def _split(text: str | int | float, kind: str) -> tuple[int, int, str]:
    """A number that is not negative, exactly, as a fraction; and what follows it."""
    if isinstance(text, (int, float)):
        if not 0 <= text < float("inf"):  # a NaN fails too
            raise UnitError(f"bad {kind} {text!r}: must be a number, 0 or more")
        # By way of its shortest decimal form: 0.02 means 20 ms, not the nearest binary fraction below.
        digits, _, exponent = str(text).partition("e")
        number, of = _fraction(digits)
        power = int(exponent or "0")
        return number * 10 ** max(power, 0), of * 10 ** max(-power, 0), ""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"bad {kind} {text!r}: expected a number and a unit, such as {_EXAMPLES[kind]}")
    return *_fraction(match[1]), match[2]


def _fraction(digits: str) -> tuple[int, int]:
    whole, _, decimals = digits.partition(".")
    return int(whole + decimals), 10 ** len(decimals)
