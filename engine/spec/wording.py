"""The words for one error of pydantic: what is wrong, with key and value, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from engine.errors import Problem
from engine.spec.docstrings import describe
from engine.spec.kinds import (
    Kind,
    field_kind,
    field_named,
    join_or,
    keys_below,
    keys_of,
    shape_of,
    shown,
)
from engine.spec.suggest import did_you_mean, nearest
from engine.spec.tree import Origins, Path, Plain, Span
from engine.units import format_quantity

__all__ = ["Choice", "Found", "Place", "meant_key", "problem_of"]

_LISTED = 14
_FEW = 5


@dataclass(frozen=True, slots=True)
class Choice:
    """One member of an untagged union that an error is about."""

    path: Path
    value: Plain
    union: Kind
    member: Kind | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an error is, in the values and in the settings classes."""

    path: Path
    value: Plain
    kind: Kind | None
    choices: tuple[Choice, ...] = ()
    field: FieldInfo | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """One error of pydantic, with all that is needed to tell it."""

    error: ErrorDetails
    place: Place
    section: Kind | None
    """The kind around the last part of the error's place."""
    root: Kind
    origins: Origins
    missing: tuple[str, ...] = ()
    """Several keys that are missing in the same section."""


@dataclass(frozen=True, slots=True)
class _Said:
    code: str
    message: str
    hint: str | None = None
    at: Span | None = None


def meant_key(item: Found) -> str | None:
    """The key of the same section that an unknown one is nearest to."""
    model = item.section.model if item.section is not None else None
    return nearest(str(item.error["loc"][-1]), keys_of(model)) if model is not None else None


def problem_of(item: Found) -> Problem:
    """The located problem that tells this error."""
    say = _WORDS.get(item.error["type"]) or _said_otherwise
    said = say(item)
    path = item.place.path
    return item.origins.problem(said.code, said.message, path=path, at=said.at, hint=said.hint)


def _unknown_key(item: Found) -> _Said:
    key = str(item.error["loc"][-1])
    section = item.section
    at = item.origins.key(item.place.path)
    names = keys_of(section.model) if section is not None and section.model is not None else []
    meant = meant_key(item)
    hint = f"did you mean `{meant}`?" if meant is not None else None
    if hint is None and key.startswith("x-"):
        hint = "`x-` blocks stand at the top level of a file"
    if hint is None and item.root.model is not None:
        hint = _home_of(key, keys_below(item.root.model))
    if hint is None and names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        hint = f"allowed here: {', '.join(f'`{name}`' for name in names[:_LISTED])}{more}"
    return _Said("unknown-key", f"unknown key `{shown(key)}`", hint, at)


def _home_of(key: str, homes: Mapping[str, Sequence[str]]) -> str | None:
    """Where else in the file this key, or one written nearly so, has its place."""
    near = nearest(key, homes, cutoff=0.8)
    # Several sections with the same key leave open which one is meant.
    if near is None or len(homes[near]) != 1:
        return None
    place = homes[near][0]
    return f"`{key}` belongs in `{place}`" if near == key else f"did you mean `{near}` in `{place}`?"


def _missing(item: Found) -> _Said:
    key = str(item.error["loc"][-1])
    where = f" in {_name(item.place.path)}" if item.place.path else ""
    at = item.origins.key(item.place.path) if item.place.path else item.origins.root
    if item.place.path and isinstance(item.place.path[-1], int):
        at = item.origins.value(item.place.path)
    if item.missing:
        *first, last = (f"`{name}`" for name in item.missing)
        return _Said("missing-key", f"{', '.join(first)} and {last} are missing{where}", None, at)
    model = item.place.kind.model if item.place.kind is not None else None
    hint = _how_to_add(key, model) if model is not None else None
    return _Said("missing-key", f"`{key}` is missing{where}", hint, at)


def _how_to_add(key: str, model: type[BaseModel]) -> str | None:
    field = field_named(model, key)
    if field is None:
        return None
    choices = field_kind(field).choices
    if len(choices) == 1:
        return f"add `{key}: {shown(choices[0])}`"
    if field.examples:
        return f"e.g. `{key}: {shown(field.examples[0])}`"
    return _about(model, field)


def _about(model: type[BaseModel] | None, field: FieldInfo | None) -> str | None:
    """What the class says about a field, in its first sentence at most."""
    text = describe(model, field) if model is not None and field is not None else None
    return " ".join(text.split(". ")[0].split()).rstrip(".") if text else None


def _wrong_tag(item: Found) -> _Said:
    tag, tags = _tag_of(item)
    given = item.place.value.get(tag) if isinstance(item.place.value, dict) else None
    hint = (did_you_mean(given, tags) if isinstance(given, str) else None) or _one_of(tags)
    at = item.origins.value((*item.place.path, tag))
    return _Said("unknown-kind", f"there is no `{tag}: {shown(given)}`", hint, at)


def _missing_tag(item: Found) -> _Said:
    tag, tags = _tag_of(item)
    if not isinstance(item.place.value, dict):
        return _wrong_type(item)
    where = _name(item.place.path)
    # The tag under another name: without it nothing is known of the other keys, but this one is near.
    near = next((key for key in item.place.value if did_you_mean(str(key), [tag])), None)
    if near is not None:
        at = item.origins.key((*item.place.path, near))
        return _Said("missing-key", f"`{tag}` is missing in {where}", f"is `{near}` meant to be `{tag}`?", at)
    return _Said(
        "missing-key", f"`{tag}` is missing in {where}", _one_of(tags), item.origins.value(item.place.path)
    )


def _tag_of(item: Found) -> tuple[str, list[str]]:
    kind = item.place.kind
    if kind is not None and kind.tag is not None:
        return kind.tag, list(kind.tags)
    return str(item.error.get("ctx", {}).get("discriminator", "kind")).strip("'"), []


def _one_of(values: Sequence[object]) -> str | None:
    return f"use {join_or([f'`{shown(value)}`' for value in values[:_LISTED]])}" if values else None


def _wrong_type(item: Found) -> _Said:
    place, value = item.place, item.place.value
    kind = place.kind
    name = _name(place.path) or "the file"
    if value is None and place.path and kind is not None:
        below = "write its keys below it" if "section" in kind.shapes else "write a value"
        return _Said("empty-value", f"{name} is empty", f"{below}, or remove the key")
    wanted = kind.describe() if kind is not None else _EXPECTED.get(item.error["type"], "something else")
    hint = _type_hint(value, kind) or _example(place) or _keys_hint(kind)
    return _Said("wrong-type", f"{name} must be {wanted}, not {_found_words(value)}", hint)


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "dict_type": "a section of `key: value` lines",
}


def _found_words(value: Plain) -> str:
    words = {"section": "a section", "list": "a list", "nothing": "nothing"}
    shape = shape_of(value)
    if shape in words:
        return words[shape]
    return f"the text `{shown(value)}`" if shape == "text" else f"`{shown(value)}`"


def _type_hint(value: Plain, kind: Kind | None) -> str | None:
    shapes = kind.shapes if kind is not None else frozenset()
    if isinstance(value, str):
        near = did_you_mean(value, kind.texts) if kind is not None else None
        if near is not None:
            return near
        if "number" in shapes and re.fullmatch(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?", value):
            return f"remove the quotes: `{value}`"
        if "switch" in shapes and value.lower() in ("yes", "on", "y", "no", "off", "n", "true", "false"):
            return f"write `{'true' if value.lower() in ('yes', 'on', 'y', 'true') else 'false'}`"
        if "section" in shapes and re.match(r"[A-Za-z_][\w.-]*:\S", value):
            return f"put a space after `:`: `{shown(value.replace(':', ': ', 1))}`"
    if isinstance(value, float) and value.is_integer() and kind is not None and kind.annotation is int:
        return f"write `{int(value)}`"
    item = kind.item if kind is not None else None
    if (
        "list" in shapes
        and item is not None
        and shape_of(value) in item.shapes
        and shape_of(value) != "section"
    ):
        return f"write `[{shown(value)}]`"
    if "list" in shapes and shape_of(value) == "section":
        return "start each entry with `- `"
    if kind is not None and kind.takes_any_text and shape_of(value) in ("number", "switch"):
        return f'quote it: `"{shown(value)}"`'
    if kind is not None and kind.tag is not None and isinstance(value, str) and value in kind.tags:
        return f"write `{{{kind.tag}: {value}}}`"
    return None


def _keys_hint(kind: Kind | None) -> str | None:
    if kind is None or kind.model is None:
        return None
    keys = keys_of(kind.model)
    more = ", ..." if len(keys) > _FEW else ""
    return f"its keys are {', '.join(f'`{key}`' for key in keys[:_FEW])}{more}"


def _example(place: Place) -> str | None:
    field = place.field
    if field is None or not place.path or isinstance(place.path[-1], int):
        return None
    quantity = field_kind(field).quantity
    for example in (*(field.examples or ()), field.default):
        if isinstance(example, bool | int | float | str):
            text = (
                quantity.text_for_people(example)
                if quantity and isinstance(example, float)
                else _tidy(example)
            )
            return f"e.g. `{place.path[-1]}: {shown(text)}`"
    return None


def _wrong_choice(item: Found) -> _Said:
    place = item.place
    choices = place.kind.choices if place.kind is not None else ()
    if not choices:
        return _said_otherwise(item)
    if place.value is None:
        return _wrong_type(item)
    texts = [str(choice) for choice in choices]
    hint = did_you_mean(place.value, texts) if isinstance(place.value, str) else None
    if isinstance(place.value, str) and place.value in texts and place.value not in choices:
        wanted = join_or([f"`{text}`" for text in texts])
        message = f"{_name(place.path)} must be {wanted}, not the text `{place.value}`"
        return _Said("wrong-type", message, f"remove the quotes: `{place.value}`")
    message = f"{_name(place.path)} cannot be {_found_words(place.value).removeprefix('the text ')}"
    return _Said("unknown-value", message, hint or _one_of(choices))


def _out_of_range(item: Found) -> _Said:
    data = item.error.get("ctx", {})
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "multiple_of": "a multiple of"}
    key = next(key for key in words if key in data)
    bound: Any = data[key]
    quantity = item.place.kind.quantity if item.place.kind is not None else None
    limit = format_quantity(bound, quantity.dimension) if quantity is not None else shown(_tidy(bound))
    message = f"{_name(item.place.path)} is {shown(item.place.value)}; it must be {words[key]} {limit}"
    return _Said("out-of-range", message)


def _tidy(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _wrong_length(item: Found) -> _Said:
    data = item.error.get("ctx", {})
    name = _name(item.place.path)
    is_text = isinstance(item.place.value, str)
    if "min_length" in data:
        limit, comparison = data["min_length"], "at least"
    else:
        limit, comparison = data["max_length"], "at most"
    if not item.place.value:
        return _Said("wrong-length", f"{name} is empty", _example(item.place))
    count = len(item.place.value) if isinstance(item.place.value, str | list | dict) else 0
    message = f"{name} has {_counted(count, is_text)}; it must have {comparison} {_counted(limit, is_text)}"
    return _Said("wrong-length", message)


def _counted(count: int, is_text: bool) -> str:
    one, many = ("character", "characters") if is_text else ("entry", "entries")
    return f"{count} {one if count == 1 else many}"


def _wrong_pattern(item: Found) -> _Said:
    message = f"{_name(item.place.path)} cannot be `{shown(item.place.value)}`"
    model = item.section.model if item.section is not None else None
    return _Said("bad-text", message, _about(model, item.place.field))


def _bad_quantity(item: Found) -> _Said:
    data: Mapping[str, Any] = item.error.get("ctx", {})
    name = _name(item.place.path)
    if item.place.value is None:
        return _wrong_type(item)
    message = str(data.get("message", item.error["msg"]))
    hint = data.get("hint")
    return _Said(str(data.get("code", "bad-quantity")), f"{name}: {message}", str(hint) if hint else None)


def _rule(item: Found) -> _Said:
    """A rule of our own classes over several keys: point at the first key it names."""
    cause = item.error.get("ctx", {}).get("error")
    message = str(cause) if cause is not None else item.error["msg"]
    at = None
    if isinstance(item.place.value, dict):
        named = [key for key in re.findall(r"`([^`:]+)[^`]*`", message) if key in item.place.value]
        path = (*item.place.path, named[0]) if named else item.place.path
        at = item.origins.value(path) if named else item.origins.key(path)
    hint = getattr(cause, "hint", None)
    return _Said("broken-rule", message, str(hint) if hint else None, at)


def _said_otherwise(item: Found) -> _Said:
    data: Mapping[str, Any] = item.error.get("ctx", {})
    text = item.error["msg"].rstrip(".")
    hint = data.get("hint")
    code = item.error["type"].replace("_", "-")
    message = f"{text[:1].lower()}{text[1:]}"
    if item.error["loc"][-1:] == ("[key]",):
        return _Said(code, message, str(hint) if hint else None, item.origins.key(item.place.path))
    message = f"{_name(item.place.path) or 'the file'}: {message}"
    return _Said(code, message, str(hint) if hint else None)


def _name(path: Path) -> str:
    """A key in backticks, or an item by its position counted from 1."""
    if not path:
        return ""
    last = path[-1]
    if isinstance(last, str):
        return f"`{shown(last)}`"
    key = next((part for part in reversed(path[:-1]) if isinstance(part, str)), None)
    return f"item {last + 1}" + (f" of `{shown(key)}`" if key is not None else "")


_WORDS: dict[str, Callable[[Found], _Said]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "union_tag_invalid": _wrong_tag,
    "union_tag_not_found": _missing_tag,
    "literal_error": _wrong_choice,
    "enum": _wrong_choice,
    "string_pattern_mismatch": _wrong_pattern,
    "quantity": _bad_quantity,
    "value_error": _rule,
    "assertion_error": _rule,
    "union": _wrong_type,
    **dict.fromkeys(
        ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"), _out_of_range
    ),
    **dict.fromkeys(("too_short", "too_long", "string_too_short", "string_too_long"), _wrong_length),
    **dict.fromkeys(
        (
            "int_type", "int_from_float", "int_parsing", "float_type", "float_parsing", "string_type",
            "bool_type", "bool_parsing", "list_type", "tuple_type", "set_type", "dict_type", "mapping_type",
            "model_type", "model_attributes_type", "none_required", "path_type", "dataclass_type",
        ),
        _wrong_type,
    ),
}  # fmt: skip
