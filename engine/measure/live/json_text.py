"""JSON by orjson where it is installed, by the standard library where it is not or refuses."""

from __future__ import annotations

import json
from typing import Any

try:
    import orjson
except ModuleNotFoundError:
    orjson = None  # type: ignore[assignment]

__all__ = ["from_json", "to_json"]


def from_json(data: bytes) -> Any:
    """What a text says; raises `ValueError`, or `RecursionError` for one that is nested too deeply."""
    if orjson is not None:
        try:
            return orjson.loads(data)
        except ValueError:
            # It refuses an escaped half of a character, which JSON allows and servers send that cut text
            # between the halves (RFC 8259, section 8.2).
            pass
    return json.loads(data)


def to_json(value: Any) -> bytes:
    """The shortest text of a value."""
    if orjson is not None:
        try:
            return orjson.dumps(value)
        except TypeError:  # half of a character in a prompt
            pass
    return json.dumps(value, separators=(",", ":")).encode()
