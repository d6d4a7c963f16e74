"""Which function carries out which kind of measurement; none is imported before it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from engine.errors import EnvironmentMissing, MeasurementError
from engine.spec.settings import Settings

if TYPE_CHECKING:
    from engine.plan.point import Task
    from engine.results.tables import Tables

MODULES: Final = {
    "analytical": "engine.measure.analytical",
    "live": "engine.measure.live",
    "energy": "engine.measure.energy",
    "run_folder": "engine.measure.run_folder",
    "training": "engine.measure.training",
    "device_probe": "engine.measure.device_probe",
}
"""Kind -> module whose import registers it."""

MeasureFunction = Callable[[Any, "Task", "Tools"], "Tables"]
Function = TypeVar("Function", bound=MeasureFunction)


@dataclass(frozen=True)
class Tools:
    """What a measurement may use besides its settings and its points."""

    spec_folder: Path
    """Folder that relative paths of the spec start from."""
    scratch: Path
    """Empty folder for temporary files; removed after the task."""
    seed: int = 0
    """Seed for everything random in the task."""
    say: Callable[[str], None] = field(default=lambda _: None)
    """Tells the user what is going on, one short line."""
    pass_on: Callable[[], None] = field(default=lambda: None)
    """Lets other measurements work, where they take turns; returns when it is this one's turn again."""


class Incomplete(MeasurementError):
    """A measurement that failed but got somewhere: its tables are kept, and the task counts as failed."""

    def __init__(self, message: str, tables: Tables) -> None:
        super().__init__(message)
        self.tables = tables


@dataclass(frozen=True)
class Registered:
    """A kind of measurement."""

    kind: str
    settings: type[Settings]
    function: MeasureFunction
    result_version: int
    """Raised by hand when the same settings would give other numbers: stored results are then made again."""
    needs: frozenset[str]
    """What must be there: `gpu`, `nvml`, `torch`... for doctor and for choosing a machine."""


_found: dict[str, Registered] = {}


def measurement(
    settings: type[Settings], *, result_version: int, needs: Iterable[str] = ()
) -> Callable[[Function], Function]:
    """Register a function `(settings, task, tools) -> tables` for the kind of its settings class.

    In the tables it returns, `point` counts the points of the task from 0, in the task's order. A task
    without points numbers those of its own `points` table from 0. It raises `EngineError` and writes nothing;
    `Incomplete` keeps what it has.
    """
    kind = str(settings.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]

    def register(function: Function) -> Function:
        _found[kind] = Registered(kind, settings, function, result_version, frozenset(needs))
        return function

    return register


def find(kind: str) -> Registered:
    """The measurement of a kind; raises `EnvironmentMissing` when a library it rests on is absent."""
    if kind not in _found:
        if kind not in MODULES:
            raise MeasurementError(f"no measurement `{kind}`", hint="kinds: " + ", ".join(MODULES))
        try:
            importlib.import_module(MODULES[kind])
        except ModuleNotFoundError as err:
            raise EnvironmentMissing(
                f"measurement `{kind}` needs `{err.name}`, which is not installed",
                hint="`engine doctor` says what to install",
            ) from err
    return _found[kind]


def versions(kinds: Iterable[str] = MODULES) -> dict[str, int]:
    """Result version of each kind; kinds whose libraries are absent are left out."""
    found: dict[str, int] = {}
    for kind in kinds:
        try:
            found[kind] = find(kind).result_version
        except EnvironmentMissing:
            continue
    return found
