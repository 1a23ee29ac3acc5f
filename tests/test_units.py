"""Durations and ratios as people type them."""

from __future__ import annotations

import pytest

from rawkit.errors import UnitError
from rawkit.units import parse_duration, parse_ratio


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("20ms", 20_000_000),
        ("1.5 s", 1_500_000_000),
        ("0", 0),
        ("10", 10_000_000_000),
        (".5us", 500),
        ("3µs", 3_000),
        ("7ns", 7),
        ("2min", 120_000_000_000),
        ("1h", 3_600_000_000_000),
        (0, 0),
        (2, 2_000_000_000),
        (0.02, 20_000_000),  # exactly, although 0.02 has no exact binary form
        (1e-9, 1),
        ("9223372036854775807ns", 2**63 - 1),
    ],
)
def test_durations(text: str | float, ns: int) -> None:
    assert parse_duration(text) == ns


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "expected a number and a unit"),
        ("ms", "expected a number and a unit"),
        ("-1s", "expected a number and a unit"),
        ("1.2.3s", "expected a number and a unit"),
        ("1e3", "expected a number and a unit"),
        ("5 parsecs", "unknown unit 'parsecs', expected one of ns, us, ms, s, min, h"),
        ("5m", "minutes are 'min'"),
        ("٣s", "expected a number and a unit"),
        (-0.5, "must be a number, 0 or more"),
        (float("nan"), "must be a number, 0 or more"),
        (float("inf"), "must be a number, 0 or more"),
        ("9223372036854775808ns", "longer than 292 years"),
        ("9" * 40 + "s", "expected a number and a unit"),
    ],
)
def test_bad_durations(text: str | float, part: str) -> None:
    with pytest.raises(UnitError, match=part):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("1%", 0.01), ("0.5 %", 0.005), ("0.25", 0.25), ("100%", 1.0), (1, 1.0), (0, 0.0), (0.1, 0.1)],
)
def test_ratios(text: str | float, ratio: float) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1.5", r"between 0 and 1 .*did you mean 1\.5%\?"),
        ("101%", "between 0 and 1"),
        ("-1%", "expected a number"),
        ("a lot", "expected a number"),
        ("5ms", "unknown unit 'ms'"),
        (float("nan"), "must be a number"),
    ],
)
def test_bad_ratios(text: str | float, part: str) -> None:
    with pytest.raises(UnitError, match=part):
        parse_ratio(text)
