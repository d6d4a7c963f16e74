"""Rewrites pydantic's JSON Schema into what editors explain well.

Each pass mends one thing that yaml-language-server was seen to do badly with the schema as generated:
`docs/design/0004-editor-schema.md` lists them with what a user saw before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

__all__ = ["Json", "for_editors", "pruned"]

Json = dict[str, Any]
Pass = Callable[[Json, Json], Json]

_OF_NAMES: Final = ("properties", "patternProperties", "$defs")
_OF_ONE: Final = ("items", "additionalProperties", "if", "then", "else", "not", "propertyNames")
_OF_MANY: Final = ("anyOf", "allOf", "oneOf")
_NULL: Final = {"type": "null"}

_LISTED: Final = 16

# Shown in place of `Incorrect type. Expected "integer"`.
_WANTED: Final = {
    "integer": "Write a whole number",
    "number": "Write a number",
    "boolean": "Write true or false",
    "array": "Write a list, e.g. [a, b]",
    "string": "Write text; quote it if it looks like a number",
}


def for_editors(schema: Json) -> Json:
    """The schema after every pass, its definitions included; the argument is left as it was."""
    for one_pass in (_tags, _nullable, _unions, _defaults, _messages, _titles, _markdown):
        schema = _rewritten(schema, one_pass, schema.get("$defs", {}))
    return schema


def pruned(schema: Json) -> Json:
    """The schema without definitions that nothing refers to, the others sorted by name."""
    definitions = schema.get("$defs", {})
    used: set[str] = set()
    waiting = _references({key: value for key, value in schema.items() if key != "$defs"})
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting |= _references(definitions[name])
    kept = {name: definitions[name] for name in sorted(used)}
    return {**{key: value for key, value in schema.items() if key != "$defs"}, "$defs": kept}


def _references(node: object) -> set[str]:
    if isinstance(node, Mapping):
        own = {_name_in(node["$ref"])} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()


def _name_in(reference: str) -> str:
    return reference.removeprefix("#/$defs/")


def _rewritten(schema: Json, one_pass: Pass, definitions: Json) -> Json:
    """The pass applied to this schema and then to every schema inside the result."""
    schema = dict(one_pass(schema, definitions))
    for key in _OF_NAMES:
        if key in schema:
            inner = schema[key].items()
            schema[key] = {name: _rewritten(value, one_pass, definitions) for name, value in inner}
    for key in _OF_ONE:
        if isinstance(schema.get(key), dict):
            schema[key] = _rewritten(schema[key], one_pass, definitions)
    for key in _OF_MANY:
        if key in schema:
            schema[key] = [_rewritten(value, one_pass, definitions) for value in schema[key]]
    return schema


def _tags(schema: Json, definitions: Json) -> Json:
    """A tagged union lists all its tags; as `oneOf`, a wrong tag is held against one member only."""
    if "discriminator" not in schema:
        return schema
    tag = schema["discriminator"]["propertyName"]
    order = [member["$ref"] for member in schema["oneOf"]]
    members = dict(sorted(schema["discriminator"]["mapping"].items(), key=lambda m: order.index(m[1])))
    kept = {key: value for key, value in schema.items() if key not in ("discriminator", "oneOf")}
    choice = {
        "title": tag,
        "description": "What this is.",
        "type": "string",
        "enum": list(members),
        "markdownEnumDescriptions": [
            _one_line(definitions[_name_in(reference)].get("description", ""))
            for reference in members.values()
        ],
    }
    return {
        **kept,
        "type": "object",
        "properties": {tag: choice},
        "required": [tag],
        "allOf": [
            {
                # Without the type, anything that is no section would meet the condition.
                "if": {"type": "object", "properties": {tag: {"const": value}}, "required": [tag]},
                "then": {"$ref": reference},
            }
            for value, reference in members.items()
        ],
    }


def _nullable(schema: Json, definitions: Json) -> Json:
    """`T | null` as one schema: beside `anyOf`, editors show names twice and lose the description."""
    branches = schema.get("anyOf", ())
    rest = [branch for branch in branches if branch != _NULL]
    if len(rest) != 1 or len(rest) == len(branches):
        return schema
    inner = rest[0]
    if "$ref" in inner:
        inner = {**definitions[_name_in(inner["$ref"])], **{k: v for k, v in inner.items() if k != "$ref"}}
    around = {key: value for key, value in schema.items() if key != "anyOf"}
    merged = {**inner, **around}
    for key in ("enum", "markdownEnumDescriptions"):
        if key in merged:
            merged[key] = [*merged[key], None if key == "enum" else "Nothing."]
    if "const" in merged:
        merged["enum"] = [merged.pop("const"), None]
    if isinstance(merged.get("type"), str):
        merged["type"] = [merged["type"], "null"]
    return merged


def _unions(schema: Json, _definitions: Json) -> Json:
    """Members of a union that the server can tell apart; it takes look-alikes for matches and lists all."""
    if "anyOf" not in schema:
        return schema
    first, *others = schema["anyOf"]
    # Two members are the same to the server when title, description and `properties` (by identity) are.
    # Beside a reference it would ignore the last.
    return {
        **schema,
        "anyOf": [first, *(other if "$ref" in other else {"properties": {}, **other} for other in others)],
    }


def _defaults(schema: Json, _definitions: Json) -> Json:
    """Only defaults worth typing: editors insert them, and nobody wants a whole section of nulls."""
    default = schema.get("default")
    if default is None or isinstance(default, dict) or default == []:
        return {key: value for key, value in schema.items() if key != "default"}
    return schema


def _messages(schema: Json, _definitions: Json) -> Json:
    """What to write, instead of a type name or a regular expression."""
    wanted = schema.get("patternErrorMessage") or _wanted(schema)
    if wanted is None or "errorMessage" in schema:
        return schema
    added = {"patternErrorMessage": wanted} if "pattern" in schema else {}
    return {**schema, **added, "errorMessage": wanted}


def _wanted(schema: Json) -> str | None:
    if "const" in schema and "type" not in schema:
        return None  # one of many suggestions, or the condition of a tag
    kinds = schema.get("type", ())
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    # With one text for both, a value of the wrong type among listed ones is told once.
    if choices and len(choices) <= _LISTED:
        return f"Write {_either([choice for choice in choices if choice is not None])}"
    if choices or "pattern" in schema:
        return f"Not allowed. {_one_line(schema.get('description', 'This text does not fit')).rstrip('.')}"
    return next((_WANTED[k] for k in ([kinds] if isinstance(kinds, str) else kinds) if k in _WANTED), None)


def _either(choices: Sequence[object]) -> str:
    *most, last = [json.dumps(choice) if isinstance(choice, bool) else str(choice) for choice in choices]
    return f"{', '.join(most)} or {last}" if most else last


def _titles(schema: Json, _definitions: Json) -> Json:
    """Sections are called as people would, not by class; fields keep their key, items get one."""
    title = schema.get("title", "")
    items = schema.get("items", {})
    if schema.get("type") == "array" and "allOf" in items and "title" not in items:
        return {**schema, "items": {"title": title.removesuffix("s"), **items}}
    if schema.get("type") != "object" or not re.fullmatch(r"[A-Z]\w*", title):
        return schema
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", title.removesuffix("Settings")).lower()
    return {**schema, "title": words or title}


def _markdown(schema: Json, _definitions: Json) -> Json:
    """Descriptions as Markdown, each paragraph on one line; plain ones are shown with escaped backticks."""
    if "description" not in schema:
        return schema
    text = "\n\n".join(_one_line(part) for part in schema["description"].split("\n\n"))
    return {**schema, "description": text, "markdownDescription": text}


def _one_line(text: str) -> str:
    return " ".join(text.split())
