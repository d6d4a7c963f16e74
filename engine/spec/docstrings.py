"""What the docstring under a field says, read only when an editor schema or a message needs it.

pydantic can do this itself (`use_attribute_docstrings`), but when each class is made and by parsing the whole
module once a class: a fifth of the time of `engine check`.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel
from pydantic.fields import FieldInfo

__all__ = ["describe", "description_of"]


def description_of(model: type[BaseModel], name: str) -> str | None:
    """The description of a field: its own, or the docstring under it in this class or one above."""
    info = model.model_fields[name]
    if info.description is not None:
        return info.description
    for owner in model.__mro__:
        text = _in_module(owner.__module__).get(owner.__qualname__, {}).get(name)
        if text is not None:
            return text
    return None


def describe(model: type[BaseModel], info: FieldInfo) -> str | None:
    """The description of a field that is at hand without its name."""
    name = next((name for name, field in model.model_fields.items() if field is info), None)
    return info.description if name is None else description_of(model, name)


@cache
def _in_module(name: str) -> dict[str, dict[str, str]]:
    """Qualified name of a class -> field -> docstring."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError, KeyError):
        # No source, as in an interactive session: fields go without descriptions.
        return {}
    return dict(_classes(tree, ""))


def _classes(node: ast.AST, prefix: str) -> Iterator[tuple[str, dict[str, str]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield f"{prefix}{child.name}", dict(_fields(child))
            yield from _classes(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield from _classes(child, f"{prefix}{child.name}.<locals>.")


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, text in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            yield field.target.id, inspect.cleandoc(text.value.value)
