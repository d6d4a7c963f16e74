"""Bounded reading of a `config.json` from disk: data only, every surprise a plain error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from engine.errors import Problem, SpecError

__all__ = ["read_config"]

_LARGEST_FILE_BYTES: Final = 1024 * 1024
_DEEPEST: Final = 64


def read_config(path: Path) -> dict[str, object]:
    """The mapping in a JSON file of at most 1 MiB; duplicate keys, NaN and deep nesting are refused."""
    shown = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE_BYTES + 1)
    except OSError as err:
        raise _unreadable(shown, f"cannot be read: {(err.strerror or str(err)).lower()}") from err
    if len(data) > _LARGEST_FILE_BYTES:
        raise _unreadable(shown, "is larger than 1 MiB, which no model config is")
    try:
        config = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_unique_pairs(shown),
            parse_constant=_refuse_constant(shown),
        )
    except UnicodeDecodeError as err:
        raise _unreadable(shown, "is not UTF-8 text") from err
    except json.JSONDecodeError as err:
        problem = Problem(
            code="bad-json",
            message=f"not valid JSON: {err.msg[:1].lower()}{err.msg[1:]}",
            file=shown,
            line=err.lineno,
            column=err.colno,
        )
        raise SpecError([problem]) from err
    except RecursionError as err:
        raise _unreadable(shown, "is nested too deeply") from err
    except ValueError as err:  # a number of thousands of digits
        raise _unreadable(shown, "holds a number that is too long") from err
    if not isinstance(config, dict):
        raise _unreadable(shown, "must hold a mapping")
    if _depth(config) > _DEEPEST:
        raise _unreadable(shown, "is nested too deeply")
    return config


def _unreadable(shown: str, what: str) -> SpecError:
    return SpecError([Problem(code="bad-file", message=f"`{Path(shown).name}` {what}", file=shown)])


def _unique_pairs(shown: str) -> Callable[[list[tuple[str, object]]], dict[str, object]]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                message = f"key `{key[:60]}` is given twice"
                raise SpecError([Problem(code="duplicate-key", message=message, file=shown, path=(key,))])
            found[key] = value
        return found

    return unique


def _refuse_constant(shown: str) -> Callable[[str], object]:
    def refuse(constant: str) -> object:
        raise SpecError(
            [Problem(code="bad-value", message=f"`{constant}` is not a number of JSON", file=shown)]
        )

    return refuse


def _depth(value: object) -> int:
    """Levels of nesting, without recursion: the text may be hostile."""
    deepest, open_values = 0, [(value, 1)]
    while open_values:
        current, level = open_values.pop()
        deepest = max(deepest, level)
        children = current.values() if isinstance(current, dict) else current
        if isinstance(current, dict | list):
            open_values.extend((child, level + 1) for child in children)  # type: ignore[attr-defined]
    return deepest
