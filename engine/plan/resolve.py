"""From names and overrides to settled models, devices and formats: each combination once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel, ValidationError

from engine.errors import EngineError, LocatedError, Problem, SpecError
from engine.plan.expand import label_of, value_problems
from engine.plan.fingerprint import digest_of, fingerprint
from engine.spec.analytical import AnalyticalSettings
from engine.spec.catalog import (
    catalog_files,
    load_calibrations,
    load_hardware,
    load_model,
    load_quantization,
    nearest_set,
)
from engine.spec.energy import EnergySettings
from engine.spec.experiment import FROM_LOGS, Experiment
from engine.spec.hardware import Hardware
from engine.spec.live import LiveSettings
from engine.spec.model import Model
from engine.spec.paths import NAMED, sweepable
from engine.spec.quantization import Quantization
from engine.spec.workload import COUNTS, Parallelism, Speculation, Workload

SECTIONS: Final = (*NAMED, "parallelism", "workload")
"""Sections a combination settles."""

if TYPE_CHECKING:
    from engine.spec.calibration import Calibration

_LOADERS: Final[dict[str, Callable[..., BaseModel]]] = {
    "model": load_model,
    "hardware": load_hardware,
    "quantization": load_quantization,
}


Entries = Mapping[str, Mapping[str, BaseModel]]
"""Kind -> name -> catalogue entry."""


@dataclass(frozen=True, eq=False)
class Combination:
    """One choice of everything that is not a plain count of the workload, resolved."""

    labels: dict[str, str]
    """Section -> name, with overridden fields in braces."""
    values: dict[str, Any]
    """Swept path -> value, as in the sweep."""
    model: Model
    hardware: Hardware
    quantization: Quantization
    parallelism: Parallelism
    workload: Workload
    """Base workload; counts that are swept are replaced point by point."""
    digest: str
    """Fingerprint of everything resolved here but the counts of the workload."""
    digests: dict[str, str]
    """The same for each section."""
    draft: Model | None = None
    """Model that proposes tokens, where speculation names one."""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    """Parameter sets that predictions may use; no part of the digest, as measurements do not."""
    calibration: str = "none"
    """Which of them a measurement is put beside: `auto`, `none` or a name."""

    def label_at(self, path: str) -> str | None:
        """Label of a field, swept or not, as drop rules compare it; None for counts, which vary point by
        point, and for fields of an absent section."""
        section, *keys = path.split(".")
        if path in self.values:
            return label_of(self.values[path])
        if not keys:
            return self.labels[section].split("{")[0]
        if section == "workload" and keys[0] in COUNTS:
            return None
        value: Any = getattr(self, section)
        for key in keys:
            value = getattr(value, key, None)
        return None if value is None else label_of(value)

    @property
    def speculation(self) -> Speculation | None:
        """Speculative decoding of this combination."""
        return self.workload.speculation


class Resolver:
    """Turns assignments of swept paths into combinations; catalogue entries are read once."""

    def __init__(
        self,
        experiment: Experiment,
        search: Sequence[Path] = (),
        *,
        entries: Entries | None = None,
        calibrated: bool = True,
    ) -> None:
        """`entries` stand in for the catalogue's own; with `calibrated=False` parameter sets stay unread."""
        self._experiment = experiment
        self._calibrated = calibrated
        self._search = tuple(search)
        self._given = entries or {}
        self.entries: dict[str, dict[str, BaseModel]] = {name: {} for name in NAMED}
        self._calibrations: dict[str, Mapping[str, Calibration]] = {}
        self._asked = _asked_sets(experiment)
        self._settled: dict[tuple[Any, ...], tuple[str, BaseModel, str]] = {}
        self._inline: dict[int, BaseModel] = {}
        self._paths: dict[tuple[str, ...], dict[str, list[str]]] = {}

    def check_names(self) -> None:
        """Load every name the experiment uses; raises `SpecError` with a problem at each use of a bad one."""
        problems: list[Problem] = []
        for section, value, place in _named_places(self._experiment):
            if value == FROM_LOGS and not self._experiment.has_points:
                continue
            try:
                self._section(section, {section: _typed(section, value)})
            except ValidationError:
                continue  # the axis check says what is wrong with such a value
            except EngineError as err:
                first = err.problems[0] if isinstance(err, LocatedError) and err.problems else None
                hint = (first.hint if first else None) or err.hint
                where = f" ({first.file}:{first.line})" if first and first.file and first.line else ""
                code = first.code if first else "unresolved"
                problems.append(Problem(code=code, message=err.message + where, hint=hint, path=place))
        problems += self._unknown_sets()
        if problems:
            raise SpecError(problems)

    def _unknown_sets(self) -> list[Problem]:
        """A problem for each prediction that names a parameter set nobody has."""
        asked = [
            (i, m.calibration)
            for i, m in enumerate(self._experiment.measurements)
            if isinstance(m, AnalyticalSettings) and m.calibration not in ("auto", "none")
        ]
        if not asked or self._given:
            return []
        known = sorted(catalog_files("calibration", search=self._search))
        return [
            Problem(
                code="unknown-calibration",
                message=f"there is no parameter set `{name}`",
                hint=_nearest_set(name, known),
                path=("measurements", i, "calibration"),
            )
            for i, name in asked
            if name not in known
        ]

    def combination(self, values: dict[str, Any]) -> Combination:
        """The resolved settings for one assignment of swept paths."""
        paths = self._by_section(tuple(values))
        settled = {
            name: self._section(name, {path: values[path] for path in paths[name]}) for name in SECTIONS
        }
        digests = {name: digest for name, (_, _, digest) in settled.items()}
        workload = cast("Workload", settled["workload"][1])
        draft = self._draft(workload)
        hardware = cast("Hardware", settled["hardware"][1])
        if draft is not None:
            digests["workload"] = fingerprint(digests["workload"], draft)
        return Combination(
            labels={name: label for name, (label, _, _) in settled.items()},
            values=dict(values),
            model=cast("Model", settled["model"][1]),
            hardware=hardware,
            quantization=cast("Quantization", settled["quantization"][1]),
            parallelism=cast("Parallelism", settled["parallelism"][1]),
            workload=workload,
            draft=draft,
            digest=digest_of(digests.values()),
            digests=digests,
            calibrations=self._for_device(hardware) if self._calibrated else {},
            calibration=self._asked[0] if self._asked else "none",
        )

    def _for_device(self, hardware: Hardware) -> Mapping[str, Calibration]:
        """The parameter sets for a device, read once; none where no prediction asks for any."""
        names = [name for name in self._asked if name != "none"]
        if not names:
            return {}
        key = f"{hardware.name}|{hardware.vendor}|{hardware.architecture}"
        if key not in self._calibrations:
            given = cast("dict[str, Calibration] | None", self._given.get("calibration"))
            if given is None and not self._given:
                named = [name for name in names if name != "auto"]
                given = load_calibrations([hardware], names=named, search=self._search)
            found = _of_device(given or {}, hardware, names)
            self._calibrations[key] = found
            self.entries.setdefault("calibration", {}).update(found)
        return self._calibrations[key]

    def _by_section(self, paths: tuple[str, ...]) -> dict[str, list[str]]:
        """Swept paths by the section they belong to; a sweep has the same ones at nearly every point."""
        if paths not in self._paths:
            self._paths[paths] = {
                name: [p for p in paths if p == name or p.startswith(name + ".")] for name in SECTIONS
            }
        return self._paths[paths]

    def _draft(self, workload: Workload) -> Model | None:
        speculation = workload.speculation
        if speculation is None or speculation.draft_model is None:
            return None
        return cast("Model", self._section("model", {"model": speculation.draft_model})[1])

    def _section(self, name: str, values: dict[str, Any]) -> tuple[str, BaseModel, str]:
        base = values.get(name, getattr(self._experiment, name))
        inside = {path: value for path, value in values.items() if path != name}
        key = (
            name,
            self._identity(base),
            *((path, type(value), label_of(value)) for path, value in inside.items()),
        )
        if key not in self._settled:
            settings = base if isinstance(base, BaseModel) else self._entry(name, base)
            label = base if isinstance(base, str) else str(getattr(base, "name", name))
            if inside:
                settings = _override(settings, inside)
                fields = (
                    f"{path.removeprefix(name + '.')}={_shown(path, value)}" for path, value in inside.items()
                )
                label = f"{label}{{{', '.join(fields)}}}"
            counted = settings.model_copy(update=dict.fromkeys(COUNTS)) if name == "workload" else settings
            self._settled[key] = (label, settings, fingerprint(counted))
        return self._settled[key]

    def _identity(self, base: str | BaseModel) -> str | int:
        if isinstance(base, str):
            return base
        # Hashing a long inline mapping for each of many combinations is slow; a kept object keeps its id.
        self._inline[id(base)] = base
        return id(base)

    def _entry(self, kind: str, name: str) -> BaseModel:
        """A catalogue entry, from the run's own copy when there is one."""
        entry = self.entries[kind].get(name) or self._given.get(kind, {}).get(name)
        if entry is None:
            entry = _LOADERS[kind](name, search=self._search)
        self.entries[kind][name] = entry
        return entry


def _asked_sets(experiment: Experiment) -> list[str]:
    """What predictions ask for; without any, measurements are put beside the nearest parameters."""
    asked = [m.calibration for m in experiment.measurements if isinstance(m, AnalyticalSettings)]
    beside = any(
        isinstance(m, EnergySettings) or (isinstance(m, LiveSettings) and m.predict)
        for m in experiment.measurements
    )
    return asked or (["auto"] if beside else [])


def _nearest_set(name: str, known: Sequence[str]) -> str:
    near = nearest_set(name, known)
    return f"did you mean `{near}`?" if near else "`engine catalog list calibration` shows all"


def _of_device(
    sets: Mapping[str, Calibration], hardware: Hardware, names: Sequence[str]
) -> dict[str, Calibration]:
    """The sets of a device, or of its vendor where it has none, and those named."""
    own = {name for name, s in sets.items() if s.device_name == hardware.name}
    near = own or {name for name, s in sets.items() if s.vendor == hardware.vendor}
    return {name: sets[name] for name in sorted(sets) if name in near or name in names}


def _named_places(experiment: Experiment) -> Iterator[tuple[str, Any, tuple[str | int, ...]]]:
    """Every use of a catalogue name (or inline entry) with its place in the spec."""
    for section in NAMED:
        yield section, getattr(experiment, section), (section,)
        for i, value in enumerate(experiment.sweep.axes.get(section, ())):
            yield section, value, ("sweep", "axes", section, i)
        for kind, rows in (("tie", experiment.sweep.tie), ("points", experiment.sweep.points)):
            for i, row in enumerate(rows):
                if section in row:
                    yield section, row[section], ("sweep", kind, i, section)


def _typed(section: str, value: Any) -> Any:
    return sweepable()[section].adapter().validate_python(value)


def _shown(path: str, value: Any) -> str:
    return label_of(sweepable()[path].adapter().dump_python(value, mode="json"))


def _override(settings: BaseModel, inside: dict[str, Any]) -> BaseModel:
    """The entry with swept fields replaced, validated again as a whole."""
    dumped = settings.model_dump(mode="json")
    for path, value in inside.items():
        *parents, last = path.split(".")[1:]
        node = dumped
        for key in parents:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
        node[last] = sweepable()[path].adapter().dump_python(value, mode="json")
    try:
        return type(settings).model_validate(dumped)
    except ValidationError as err:
        changed = ", ".join(f"`{path}` = {_shown(path, value)}" for path, value in inside.items())
        found = value_problems(err, dumped, type(settings), ("sweep",))
        raise SpecError(
            replace(p, message=f"{changed}: {p.message}", path=("sweep",)) for p in found
        ) from err
