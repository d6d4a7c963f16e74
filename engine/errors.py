"""Every error a user can meet, as data; the text is made where it is shown (`engine.spec.render`).

    EngineError                 4   the root: anything the engine can explain
    +-- LocatedError            2   carries problems, each with its place in a text
    |   +-- SpecError           2   what a user wrote is not a valid experiment
    |   +-- CatalogError        2   a hardware, model or quantization entry is missing or wrong
    +-- UnitError               2   a text is not a quantity of the wanted dimension
    +-- UsageError              2   a command was called in a way that cannot work
    +-- PlanError               2   a valid experiment that cannot be planned
    +-- ThresholdError          1   the work is done and a limit the user set is not met
    +-- EnvironmentMissing      3   something asked for is not on this machine
    +-- StoreError              3   a run folder cannot be read or written
    |   +-- StoreBusy           3   another run holds the folder
    +-- MeasurementError        4   a measurement failed; other points may have succeeded
    +-- ReportError             4   a report could not be made; the tables are safe
    +-- NothingSelected         5   a filter left nothing to do

The number is the exit code of the command: 0 done, 1 threshold failed, 2 usage or spec, 3 environment
missing, 4 partial, 5 nothing selected, 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

__all__ = [
    "EXIT_INTERRUPTED",
    "CatalogError",
    "EngineError",
    "EnvironmentMissing",
    "LocatedError",
    "MeasurementError",
    "NothingSelected",
    "PlanError",
    "Problem",
    "ReportError",
    "SpecError",
    "StoreBusy",
    "StoreError",
    "ThresholdError",
    "UnitError",
    "UsageError",
]

EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake and its place; lines and columns count from 1."""

    code: str
    """Short stable name of the rule, such as `unknown-key`."""
    message: str
    """What is wrong: lower case, no full stop, names in backticks."""
    file: str | None = None
    """The file as the user named it, or `--set` for a command-line override; None when there is no text."""
    line: int | None = None
    column: int | None = None
    end_column: int | None = None
    """Column after the last marked character on the same line."""
    source_line: str | None = None
    """The whole line, without its line break."""
    hint: str | None = None
    """What to do, such as "did you mean `concurrency`?"."""
    path: tuple[str | int, ...] = ()
    """Keys and list positions that lead to the value."""


class EngineError(Exception):
    """Anything the engine can explain; further keywords are kept in `data` for whoever shows the error."""

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, *, hint: str | None = None, **data: object) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.data = data


class LocatedError(EngineError):
    """One or more problems, in file order."""

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        problems: str | Iterable[Problem],
        *,
        hint: str | None = None,
        code: str = "invalid",
        **data: object,
    ) -> None:
        found = (
            (Problem(code=code, message=problems, hint=hint),)
            if isinstance(problems, str)
            else tuple(problems)
        )
        super().__init__("; ".join(p.message for p in found), hint=hint, **data)
        self.problems: tuple[Problem, ...] = found


class SpecError(LocatedError):
    """What a user wrote is not a valid experiment."""


class CatalogError(LocatedError):
    """A hardware, model or quantization entry is missing or wrong."""


class UnitError(EngineError):
    """A text is not a quantity of the wanted dimension; `code` is the rule it breaks."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str | None = None, code: str = "bad-unit") -> None:
        super().__init__(message, hint=hint)
        self.code = code


class UsageError(EngineError):
    """A command was called in a way that cannot work."""

    exit_code: ClassVar[int] = 2


class PlanError(EngineError):
    """A valid experiment that cannot be planned."""

    exit_code: ClassVar[int] = 2


class ThresholdError(EngineError):
    """The work is done and a limit the user set is not met."""

    exit_code: ClassVar[int] = 1


class EnvironmentMissing(EngineError):
    """Something asked for is not on this machine; the hint names the way out."""

    exit_code: ClassVar[int] = 3


class StoreError(EngineError):
    """A run folder cannot be read or written."""

    exit_code: ClassVar[int] = 3


class StoreBusy(StoreError):
    """Another run holds the folder; the message says who."""


class MeasurementError(EngineError):
    """A measurement failed; other points may have succeeded."""

    exit_code: ClassVar[int] = 4


class ReportError(EngineError):
    """A report could not be made; the tables are safe."""

    exit_code: ClassVar[int] = 4


class NothingSelected(EngineError):
    """A filter left nothing to do."""

    exit_code: ClassVar[int] = 5
