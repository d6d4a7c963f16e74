"""JSON from strangers: bounded, strict about shape, lenient about NaN."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from engine.measure.run_folder.numbers import finite
from engine.measure.run_folder.text import Source, Unreadable, document, lines


def looks_like_json(source: Source, *keys: str) -> bool:
    """Whether a file starts like JSON and names all of the keys near its start or end."""
    start = source.head.lstrip("\ufeff \t\r\n")[:1]
    return start in ("{", "[") and all(f'"{key}"' in source.sample for key in keys)


def load(source: Source) -> Any:
    """The value of a JSON file; raises `Unreadable` with the place of the first mistake."""
    try:
        return json.loads(document(source).lstrip("\ufeff"), parse_constant=lambda _: None)
    except json.JSONDecodeError as err:
        what = "cut off" if err.pos >= source.size_bytes - 2 or "Unterminated" in err.msg else "not valid"
        raise Unreadable("bad-json", f"JSON is {what} at line {err.lineno}: {err.msg}") from err
    except RecursionError as err:
        raise Unreadable("bad-json", "JSON is nested too deeply") from err


def load_mapping(source: Source) -> Mapping[str, Any]:
    """The mapping in a JSON file; raises `Unreadable` when it holds something else."""
    value = load(source)
    if not isinstance(value, dict):
        raise Unreadable("bad-json", "JSON holds no mapping at its top")
    return value


def load_lines(source: Source) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
    """Each line of a file of JSON lines: its mapping, or None where the line is not one."""
    for number, line in lines(source):
        if not line.strip():
            continue
        try:
            value = json.loads(line, parse_constant=lambda _: None)
        except (json.JSONDecodeError, RecursionError):
            value = None
        yield number, value if isinstance(value, dict) else None


def dig(value: Any, *path: str | int) -> Any:
    """What lies at a path of keys and positions; None where the path ends early."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def dig_number(value: Any, *path: str | int) -> float | None:
    """The finite number at a path; None when there is none."""
    return finite(dig(value, *path))


def text_at(value: Any, *path: str | int) -> str | None:
    """The text at a path; None when there is none."""
    found = dig(value, *path)
    return found if isinstance(found, str) and found else None
