"""Plain scalars: YAML 1.2, and a refusal where readers of YAML disagree."""

import pytest

from engine.spec.scalars import AmbiguousScalar, plain_value

VALUES = [
    ("", None), ("~", None), ("null", None), ("Null", None), ("nUll", "nUll"),
    ("true", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("y", "y"),
    ("0", 0), ("-0", 0), ("+7", 7), ("-12", -12), ("0x10", 16), ("0o10", 8), ("0b11", "0b11"),
    ("9223372036854775807", 2**63 - 1), ("-9223372036854775807", -(2**63) + 1),
    ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("3.35e12", 3.35e12), ("-1E-3", -0.001),
    ("0.0", 0.0), ("0e5", 0.0),
    ("12:30", "12:30"), ("1.2.3", "1.2.3"), ("-", "-"), ("+", "+"), (".", "."), ("...", "..."),
    ("=", "="), ("<<", "<<"),
    ("80 GB", "80 GB"), ("4090", 4090), ("8x", "8x"), ("1e", "1e"), ("2024-1", "2024-1"),
    ("inf", "inf"), ("nan", "nan"),
    ("2024-01-011", "2024-01-011"), ("٣", "٣"),
]  # fmt: skip

REFUSED = [
    ("010", "ambiguous-number"),
    ("-007", "ambiguous-number"),
    ("1_000", "ambiguous-number"),
    ("1_000.5", "ambiguous-number"),
    ("9223372036854775808", "number-too-large"),
    ("0x" + "f" * 20, "number-too-large"),
    ("9" * 5000, "number-too-large"),
    ("1e999", "number-too-large"),
    ("9" * 5000 + ".0", "number-too-large"),
    ("1e-999", "number-too-small"),
    (".inf", "not-finite"),
    ("-.INF", "not-finite"),
    (".nan", "not-finite"),
    (".NaN", "not-finite"),
    ("2024-01-01", "unquoted-date"),
    ("2024-1-1", "unquoted-date"),
    ("2024-01-01 10:00:00", "unquoted-date"),
    ("2024-01-01T10:00:00Z", "unquoted-date"),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_means(text: str, value: object):
    found = plain_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("text", "code"), REFUSED, ids=lambda part: part[:20])
def test_refuses(text: str, code: str):
    with pytest.raises(AmbiguousScalar) as caught:
        plain_value(text)
    assert caught.value.code == code
    assert caught.value.hint
    assert len(str(caught.value)) < 120
