"""From a path on the command line to a checked experiment and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import SpecError
from engine.spec.document import Document, read_document, validate
from engine.spec.experiment import Experiment

if TYPE_CHECKING:
    from engine.plan.compile import Plan


@dataclass(frozen=True)
class Loaded:
    """A spec that passed every check that needs no plan."""

    path: Path
    document: Document
    experiment: Experiment

    @property
    def search(self) -> tuple[Path, ...]:
        """Folders whose own catalogue comes before the packaged one."""
        from engine.spec.include import project_root

        folder = self.path.resolve().parent
        return tuple(dict.fromkeys((folder, project_root(self.path))))


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Read and validate a spec; raises `SpecError` with every mistake located."""
    document = read_document(path, overrides=overrides)
    return Loaded(path, document, validate(document, Experiment))


def check_references(loaded: Loaded, *, max_points: int | None = None) -> None:
    """Axes, names and combinations, without NumPy; raises `SpecError` located in the spec."""
    from engine.plan.check import check

    try:
        check(loaded.experiment, search=loaded.search, max_points=max_points)
    except SpecError as err:
        raise SpecError(loaded.document.locate(err.problems)) from err


def plan_of(loaded: Loaded, *, only: Sequence[str] = (), max_points: int | None = None) -> Plan:
    """The compiled plan; raises `SpecError` located in the spec."""
    from engine.measure.registry import versions
    from engine.plan.compile import compile_plan

    try:
        return compile_plan(
            loaded.experiment, search=loaded.search, versions=versions(), only=only, max_points=max_points
        )
    except SpecError as err:
        raise SpecError(loaded.document.locate(err.problems)) from err
