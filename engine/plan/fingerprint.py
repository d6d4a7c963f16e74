"""Content hashes that decide what has to be measured again.

A fingerprint covers the resolved, unit-normalised values of a point, the measurement's settings and its
hand-raised `result_version`. Scoring and report settings stay outside, so re-scoring never re-measures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel

FORMAT: Final = "engine-fingerprint-1"

# Words about a thing, not the thing: editing a note must not repeat a night of measurements.
_PROSE: Final = {"notes", "source", "confidence", "waivers", "ranges", "aliases", "assumptions", "hub_id"}


def fingerprint(*parts: Any) -> str:
    """32 hexadecimal digits over any mix of settings, mappings, numbers and text."""
    text = json.dumps([FORMAT, *map(plain, parts)], sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def digest_of(fingerprints: Iterable[str]) -> str:
    """One fingerprint over several."""
    return hashlib.sha256("\n".join([FORMAT, *fingerprints]).encode()).hexdigest()[:32]


def plain(part: Any) -> Any:
    """What a fingerprint sees of a value, ready for JSON."""
    if isinstance(part, BaseModel):
        # What is absent is left out, so that a new optional field repeats no measurement by itself.
        return part.model_dump(mode="json", exclude=_PROSE & set(type(part).model_fields), exclude_none=True)
    if isinstance(part, dict):
        return {key: plain(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [plain(value) for value in part]
    return part
