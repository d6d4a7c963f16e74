"""Nearest names."""

import pytest

from engine.spec.suggest import did_you_mean, nearest


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("concurency", ["concurrency", "pattern"], "concurrency"),
        ("Batch_Size", ["batch_size"], "batch_size"),
        ("batch-size", ["batch_size"], "batch_size"),
        ("a4", ["A4", "Letter"], "A4"),
        ("cluster", ["model", "hardware"], None),
        ("", ["a"], None),
        ("x", [], None),
    ],
)
def test_nearest(name: str, known: list[str], found: str | None):
    assert nearest(name, known) == found


def test_hint():
    assert did_you_mean("livee", ["live", "energy"]) == "did you mean `live`?"
    assert did_you_mean("zzz", ["live"]) is None
