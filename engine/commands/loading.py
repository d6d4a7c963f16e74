"""From a path on the command line to a checked experiment and its plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from engine.errors import Problem, SpecError, UsageError
from engine.plan.check import check
from engine.spec.document import Document, read_document, validate
from engine.spec.experiment import Experiment

if TYPE_CHECKING:
    from engine.commands.console import Terminal
    from engine.plan.compile import Plan


# Any names of the catalogue: they only keep the other sections company.
_STAND_INS: Final[dict[str, Any]] = {
    "version": 1,
    "name": "unnamed",
    "model": "llama-3.1-8b",
    "hardware": "h100-sxm-80gb",
    "measurements": [{"kind": "analytical"}],
}


@dataclass(frozen=True)
class Loaded:
    """A spec that passed every check that needs no plan."""

    path: Path
    document: Document
    experiment: Experiment
    skipped: tuple[Problem, ...] = ()
    """Combinations that a run will skip, each with its reason, located."""

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


def load_checked(path: Path, overrides: Sequence[str] = (), *, max_points: int | None = None) -> Loaded:
    """A spec whose axes, names and combinations are right too, found without NumPy.

    Raises `SpecError` with every mistake at once: sections that are sound are checked further even when
    others are not.
    """
    document = read_document(path, overrides=overrides)
    problems: list[Problem] = []
    try:
        experiment = validate(document, Experiment)
    except SpecError as err:
        problems += err.problems
        experiment = _salvage(document, err.problems)
    loaded = Loaded(path, document, experiment)
    skipped: Sequence[Problem] = ()
    try:
        skipped = check(experiment, search=loaded.search, max_points=max_points)
    except SpecError as err:
        problems += err.problems
    if problems:
        raise document.locate(problems)
    return replace(loaded, skipped=document.locate(skipped).problems)


def say_swept(terminal: Terminal, loaded: Loaded, overrides: Sequence[str]) -> None:
    """Warn of values set for a field that the sweep varies, which no point uses."""
    sweep = loaded.experiment.sweep
    swept = {*sweep.axes, *(path for row in sweep.tie for path in row)}
    for path in dict.fromkeys(text.partition("=")[0].strip() for text in overrides):
        if path in swept:
            way = (
                f"`--set 'sweep.axes.{path}=[...]'` sets its values"
                if path in sweep.axes
                else "edit `sweep.tie`"
            )
            terminal.say(
                f"warning: the sweep varies `{path}`, so that `--set {path}` changes nothing\n  {way}"
            )


def plan_of(loaded: Loaded, *, only: Sequence[str] = (), max_points: int | None = None) -> Plan:
    """The compiled plan; raises `SpecError` located in the spec."""
    from engine.measure.registry import versions
    from engine.plan.compile import compile_plan

    kinds = {settings.kind for settings in loaded.experiment.measurements}
    try:
        return compile_plan(
            loaded.experiment,
            search=loaded.search,
            versions=versions(kinds),
            only=only,
            max_points=max_points,
        )
    except SpecError as err:
        raise loaded.document.locate(err.problems) from err


def _salvage(document: Document, problems: Sequence[Problem]) -> Experiment:
    """The sound parts of a spec with stand-ins for the rest, for checks that look beyond one section."""
    values: dict[str, Any] = {**_STAND_INS, **document.values}
    for problem in problems:
        section = str(problem.path[0]) if problem.path else ""
        if section == "sweep" and len(problem.path) > 1 and isinstance(values.get("sweep"), dict):
            values["sweep"] = {k: v for k, v in values["sweep"].items() if k != problem.path[1]}
        elif section in _STAND_INS:
            values[section] = _STAND_INS[section]
        else:
            values.pop(section, None)
    try:
        return Experiment.model_validate(values)
    except ValidationError:
        return Experiment.model_validate(_STAND_INS)


def model_in_spec(name: str) -> str:
    """The model as a spec names it: paths are made absolute, since the spec is written elsewhere."""
    path = Path(name)
    if path.suffix in (".json", ".yaml", ".yml") or (path / "config.json").is_file():
        if not path.exists():
            raise UsageError(f"there is no model file at `{name}`")
        return str(path.resolve())
    return name
