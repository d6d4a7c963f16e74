"""The one way from a file to a settings object: read, put together, validate, every mistake at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from engine.errors import Problem, SpecError
from engine.spec.include import apply_overrides, assemble
from engine.spec.settings import Uncoerced
from engine.spec.tree import MappingNode, Origins, Plain, flatten
from engine.spec.tree import Path as KeyPath

__all__ = ["Document", "in_file_order", "read_document", "validate"]

Model = TypeVar("Model", bound=BaseModel)

# Rules that are about a key, not about its value.
_ABOUT_KEYS: Final = frozenset({"unknown-axis", "swept-twice", "empty-axis", "unknown-key", "missing-key"})


@dataclass(frozen=True, slots=True)
class Document:
    """A spec as values, with the place of each; `problems` is what is wrong with the text itself."""

    name: str
    """The file as the user named it."""
    values: dict[str, Plain]
    """Everything written, included and set, without `include` and `x-` blocks."""
    origins: Origins
    files: tuple[Path, ...]
    """Real paths of every file read, the spec itself first."""
    sources: tuple[str, ...]
    """Names of the same files as problems show them."""
    text: str
    """The spec itself as written, without a byte order mark."""
    problems: tuple[Problem, ...] = ()

    def problem(
        self, code: str, message: str, *, path: KeyPath = (), hint: str | None = None, at_key: bool = False
    ) -> Problem:
        """A problem at the value (or the key) of `path`, for rules that look beyond one value."""
        place = self.origins.key(path) if at_key else self.origins.value(path)
        return self.origins.problem(code, message, path=path, at=place, hint=hint)

    def locate(self, problems: Iterable[Problem]) -> SpecError:
        """The error that holds these problems, those without a file placed in the text by their `path`."""
        return self.error(p if p.file is not None else self._located(p) for p in problems)

    def _located(self, problem: Problem) -> Problem:
        at_key = problem.code in _ABOUT_KEYS
        return self.problem(
            problem.code, problem.message, path=problem.path, hint=problem.hint, at_key=at_key
        )

    def error(self, problems: Iterable[Problem]) -> SpecError:
        """The error that holds these problems and those of the text, in file order, each once."""
        return SpecError(in_file_order([*self.problems, *problems], self.sources))


def read_document(path: Path | str, *, overrides: Sequence[str] = (), data: bytes | None = None) -> Document:
    """A spec with its includes and `path=value` overrides; raises `SpecError` when it cannot be read.

    What leaves the text readable (a duplicate key, an unquoted date) is kept in `problems` and raised by
    `validate`, together with everything that is wrong with the values. `data` stands in for the content of
    a file that need not exist.
    """
    path = Path(path)
    assembled = assemble(path, data=data)
    root, refused = apply_overrides(assembled.root, overrides)
    sources = [source.name for source in assembled.files.values()]
    own_source = next(iter(assembled.files.values()))
    shown = {key: entry for key, entry in root.entries.items() if not key.startswith("x-")}
    values, origins = flatten(MappingNode(shown, root.span))
    return Document(
        name=str(path),
        values=values,
        origins=origins,
        files=tuple(assembled.files),
        sources=(*sources, "--set"),
        text=own_source.text,
        problems=tuple(in_file_order([*assembled.problems, *refused], sources)),
    )


def validate(
    document: Document, model_class: type[Model], *, context: Mapping[str, Any] | None = None
) -> Model:
    """The settings object a document describes; raises `SpecError` with every problem at once."""
    try:
        settings = model_class.model_validate(document.values, context=context)
    except ValidationError as err:
        found = _problems(err, document, values=document.values, model_class=model_class)
        raise document.error(_unexplained(found, document.problems)) from err
    if document.problems:
        raise document.error(())
    return settings


def validate_part(
    document: Document,
    path: KeyPath,
    value: Plain,
    *,
    annotation: Any,
    context: Mapping[str, Any] | None = None,
) -> tuple[Any, list[Problem]]:
    """One value of a document validated against an annotation: the result, or None and its problems."""
    try:
        return TypeAdapter(Annotated[annotation, Uncoerced()]).validate_python(value, context=context), []
    except ValidationError as err:
        return None, _problems(err, document, values=value, model_class=annotation, path=path)


def _problems(err: ValidationError, document: Document, **of: Any) -> list[Problem]:
    # Only a spec with mistakes pays for loading what explains them.
    from engine.spec.diagnose import problems_from

    return problems_from(err, origins=document.origins, **of)


def in_file_order(problems: Iterable[Problem], sources: Sequence[str]) -> list[Problem]:
    """Problems by file, line and column, each told once."""
    rank = {name: position for position, name in enumerate(sources)}
    unique = list(dict.fromkeys(problems))
    return sorted(unique, key=lambda p: (rank.get(p.file or "", len(rank)), p.line or 0, p.column or 0))


def _unexplained(found: Iterable[Problem], known: Sequence[Problem]) -> list[Problem]:
    """What is not a mere consequence of a problem with the text at the same place."""
    places = {(p.file, p.line, p.column) for p in known}
    return [p for p in found if (p.file, p.line, p.column) not in places]
