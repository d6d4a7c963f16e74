"""Nearest names for hints."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.66) -> str | None:
    """The known name nearest to the one given, whatever its case; None when nothing is near."""
    # Reversed, so that of two names that differ only in case the first wins.
    folded = {_folded(other): other for other in reversed(list(known))}
    near = difflib.get_close_matches(_folded(name), folded, n=1, cutoff=cutoff)
    return folded[near[0]] if near else None


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.66) -> str | None:
    """A hint with the nearest known name; None when nothing is near."""
    near = nearest(name, known, cutoff=cutoff)
    return f"did you mean `{near}`?" if near is not None else None


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
