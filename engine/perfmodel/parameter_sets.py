"""Which fitted parameters an estimate uses: the nearest ones by stated rules, and what to say about them.

Sets of the same device; where there is none, those of the same architecture, then of the same vendor. Among
them, for each kind of operator: the set named in the spec, then the engine of the first choice, then vllm,
then the newest version. Parameters from another device are `transferred`: efficiencies and launch times are
taken over, bands are widened by what such a transfer did to held-out devices. Sets of another vendor are
never used unless named: then there is no estimate, only the bound. Attention that was not measured on a
device with multiprocessors comes from such a set as well, rather than from the device's own products.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from engine.errors import CatalogError, Problem
from engine.perfmodel.forms import Form
from engine.spec.calibration import (
    Band,
    Calibration,
    EnergyFit,
    HostFit,
    LawParameters,
    OperatorFit,
    OperatorKind,
    RequestFit,
    TimeRange,
)
from engine.spec.catalog import nearest_set
from engine.spec.hardware import Hardware, Precision

TRANSFERRED_WIDER: Final[Mapping[OperatorKind, float]] = {
    "gemm": 1.3,
    "prefill_attention": 1.4,
    "decode_attention": 1.5,
    "experts": 1.5,
    "elementwise": 1.5,
    "all_reduce": 1.7,
}
"""Factor on both ends of a band for parameters of another device: what it takes for nine of ten measured
kernels of an A100 to lie in the bands of an H100 and back, see docs/calibration.md. Experts and elementwise
steps were measured on one device only and take the factor of attention."""
_REQUEST_WIDER: Final = 1.5
EXTRAPOLATED_WIDER: Final = 1.25
"""Factor on both ends beyond the fitted sizes; no held-out rows exist there, so it is a stated guess."""
SUBSTITUTED_WIDER: Final = 1.4
"""The same for parameters of another kind of operator or precision."""

_NEAR_PRECISIONS: Final[Mapping[Precision, tuple[Precision, ...]]] = {
    "bf16": ("fp16", "fp32"),
    "fp16": ("bf16", "fp32"),
    "tf32": ("fp32", "bf16", "fp16"),
    "fp32": ("bf16", "fp16"),
    "fp8": ("int8", "bf16", "fp16"),
    "int8": ("fp8", "bf16", "fp16"),
    "fp4": ("fp8", "int8", "bf16", "fp16"),
    "int4": ("int8", "fp8", "bf16", "fp16"),
}
_STAND_INS: Final[Mapping[OperatorKind, tuple[OperatorKind, ...]]] = {
    "elementwise": ("gemm",),
    "experts": ("gemm",),
    "decode_attention": ("gemm",),
    "prefill_attention": ("gemm",),
}


@dataclass(frozen=True, eq=False)
class Law:
    """How long kernels of one kind take here, and how sure that is."""

    form: Form
    parameters: LawParameters
    """Within a model's step."""
    alone: LawParameters
    """Of the operator timed by itself."""
    bands: tuple[Band, ...]
    time_range: TimeRange
    origin: str
    """Name of the parameter set."""
    transferred: bool
    """Fitted on another device."""
    widened: float
    """Factor on both ends of the bands."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """The parameters of one device, by kind of operator."""

    name: str
    """Name of the parameter set that comes first."""
    laws: Mapping[tuple[OperatorKind, Precision], Law]
    all_reduce: tuple[tuple[int, Law], ...]
    """By number of devices, fewest first."""
    fused: bool
    host: HostFit | None
    request: RequestFit | None
    energy: EnergyFit | None
    transferred: bool
    """Everything comes from another device."""
    widened: float
    """Factor on both ends of the bands of whole requests."""
    notes: tuple[str, ...]
    """What a reader must know."""
    _near: dict[tuple[str, str, bool], Law | None] = field(default_factory=dict)

    def law(self, kind: OperatorKind, precision: Precision, *, packed: bool = False) -> Law | None:
        """The law of a kind in a precision, or the nearest one; None when nothing comes near. `packed`
        weights are unpacked on the way, which no fitted row did."""
        # The same law for the same question: errors under one law go together.
        key = (kind, precision, packed)
        if key not in self._near:
            found = self._nearest(kind, precision)
            self._near[key] = _wider(found) if packed and found is not None else found
        return self._near[key]

    def _nearest(self, kind: OperatorKind, precision: Precision) -> Law | None:
        if kind == "elementwise" and precision not in ("fp32", "tf32"):
            precision = "bf16"  # norms and activations compute in 16 bits whatever the products do
        for each in (kind, *_STAND_INS.get(kind, ())):
            for near in (precision, *_NEAR_PRECISIONS[precision]):
                found = self.laws.get((each, near))
                if found is not None:
                    same = each == kind and near in (precision, *_SIXTEEN.get(precision, ()))
                    return found if same else _wider(found)
        return None

    def collective(self, devices: int) -> Law | None:
        """The all-reduce law for the nearest fitted number of devices; None without any."""
        if not self.all_reduce:
            return None
        count, law = min(self.all_reduce, key=lambda entry: (abs(entry[0] - devices), entry[0]))
        return law if count == devices else _wider(law)


_SIXTEEN: Final[Mapping[Precision, tuple[Precision, ...]]] = {"bf16": ("fp16",), "fp16": ("bf16",)}


def _wider(law: Law) -> Law:
    return replace(law, widened=law.widened * SUBSTITUTED_WIDER)


class Choices:
    """`choose`, once for each device: what is compiled for a deployment is found again by identity."""

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._known: dict[int, tuple[Hardware, Chosen | None]] = {}

    def of(self, hardware: Hardware, sets: Mapping[str, Calibration]) -> Chosen | None:
        """The parameters for a device."""
        if id(hardware) not in self._known:
            # The sheet is kept, so that nothing else gets its identity.
            self._known[id(hardware)] = hardware, choose(self._wanted, hardware, sets)
        return self._known[id(hardware)][1]


def choose(wanted: str, hardware: Hardware, sets: Mapping[str, Calibration]) -> Chosen | None:
    """The parameters for a device; None for `none`, and where no set comes near it.

    `wanted` is `auto`, `none` or the name of a set; an unknown name raises `CatalogError`.
    """
    if wanted == "none":
        return None
    if wanted != "auto" and wanted not in sets:
        raise _unknown(wanted, sets)
    ranked = _ranked(wanted, hardware, sets)
    if not ranked:
        return None
    laws: dict[tuple[OperatorKind, Precision], Law] = {}
    collectives: dict[int, Law] = {}
    for name, far in ranked:
        for fit in sets[name].operators:
            law = _law(fit, name, far)
            if fit.devices is not None:
                collectives.setdefault(fit.devices, law)
            else:
                laws.setdefault((fit.operator, fit.precision), law)
    if not laws:
        return None
    timed = any(fit.ranges for name, far in ranked for fit in sets[name].operators)
    sister = _with_attention(laws, hardware, sets, timed=timed)
    first = ranked[0][0]
    here = [sets[name] for name, far in ranked if not far]
    return Chosen(
        name=first,
        laws=laws,
        all_reduce=tuple(sorted(collectives.items())),
        fused=sets[first].fused,
        host=sets[first].host,
        request=next((sets[name].request for name, _ in ranked if sets[name].request is not None), None),
        energy=next((s.energy for s in here if s.energy is not None), None),
        transferred=ranked[0][1],
        widened=_REQUEST_WIDER if ranked[0][1] else 1.0,
        notes=(*_notes(ranked, sets), *_sister_notes(sister, sets)),
    )


_ATTENTION: Final[tuple[OperatorKind, ...]] = ("prefill_attention", "decode_attention")


def _with_attention(
    laws: dict[tuple[OperatorKind, Precision], Law],
    hardware: Hardware,
    sets: Mapping[str, Calibration],
    *,
    timed: bool,
) -> str | None:
    """The set of another device that gives the attention which the device's own ones lack, added to `laws`;
    None where they lack none. That of another generation was 8 to 31 % off for prefill and nine rows of ten
    in its band, the device's own matrix products 58 to 72 % and one of ten."""
    known = {kind for kind, _ in laws}
    lacking = [kind for kind in _ATTENTION if kind not in known]
    # What whole requests say holds for all kernels alike: such sets know no sizes.
    if not lacking or hardware.sm_count is None or not timed:
        return None
    places = {name: _distance(hardware, found) for name, found in sets.items()}
    near = [name for name, place in places.items() if 0 < place < _ANOTHER_VENDOR]
    for name in sorted(near, key=lambda name: (places[name], *_preference(sets[name]), name)):
        fits = [fit for fit in sets[name].operators if fit.operator in lacking]
        if {fit.operator for fit in fits} == set(lacking):
            laws.update({(fit.operator, fit.precision): _law(fit, name, True) for fit in fits})
            return name
    return None


def _sister_notes(name: str | None, sets: Mapping[str, Calibration]) -> tuple[str, ...]:
    if name is None:
        return ()
    return (f"attention is transferred from `{sets[name].device}`: it was not measured on this device",)


def _law(fit: OperatorFit, name: str, far: bool) -> Law:
    within = fit.parameters
    if fit.launch_in_model is not None:
        within = within.model_copy(update={"launch": fit.launch_in_model})
    if fit.slower_in_model is not None:
        within = _slower(within, fit.slower_in_model)
    return Law(
        form=fit.form,
        parameters=within,
        alone=fit.parameters,
        bands=tuple(fit.bands),
        time_range=fit.time_range,
        origin=name,
        transferred=far,
        widened=TRANSFERRED_WIDER[fit.operator] if far else 1.0,
    )


def _slower(parameters: LawParameters, factor: float) -> LawParameters:
    """Everything but the launch `factor` times as long; `sqrt(root x work)` follows when both grow alike."""
    compute, memory = parameters.compute_efficiency, parameters.memory_efficiency
    return parameters.model_copy(
        update={
            "compute_efficiency": None if compute is None else compute / factor,
            "memory_efficiency": memory / factor,
            "single_row": None if parameters.single_row is None else parameters.single_row / factor,
            "root": parameters.root * factor,
            "single_row_root": parameters.single_row_root * factor,
            "depth_cost": parameters.depth_cost * factor,
            "wave_cost": parameters.wave_cost * factor,
            "alone_rate": None if parameters.alone_rate is None else parameters.alone_rate / factor,
        }
    )


def _ranked(wanted: str, hardware: Hardware, sets: Mapping[str, Calibration]) -> list[tuple[str, bool]]:
    """Names of the sets that may be used, nearest first, each with whether it is of another device."""
    places = {name: _distance(hardware, found) for name, found in sets.items()}
    if wanted in sets:
        # What a named set lacks comes from its own device, as the set itself does.
        near = {name for name in sets if sets[name].device_name == sets[wanted].device_name}
    else:
        nearest = min(places.values(), default=_ANOTHER_VENDOR)
        near = {name for name, place in places.items() if place == nearest < _ANOTHER_VENDOR}
    order = sorted(near, key=lambda name: (name != wanted, *_preference(sets[name]), name))
    if order:
        engine = sets[order[0]].engine
        order.sort(key=lambda name: sets[name].engine != engine)
    return [(name, places[name] > 0) for name in order]


_ANOTHER_VENDOR: Final = 3


def _distance(hardware: Hardware, found: Calibration) -> int:
    if found.device_name == hardware.name:
        return 0
    if found.vendor != hardware.vendor or hardware.vendor == "custom" or found.vendor is None:
        return _ANOTHER_VENDOR
    same = found.architecture is not None and hardware.architecture is not None
    return 1 if same and _word(found.architecture) == _word(hardware.architecture) else 2


def _word(architecture: str | None) -> str:
    return (architecture or "").split()[0].lower() if architecture else ""


def _preference(found: Calibration) -> tuple[int, tuple[int, ...]]:
    """vllm before the others, what has more kinds before what has fewer, newer before older."""
    kinds = {fit.operator for fit in found.operators}
    serves = int(not {"gemm", "prefill_attention", "decode_attention"} <= kinds)
    numbers = tuple(-int(n) for n in re.findall(r"\d+", found.engine_version))
    return serves * 2 + int(found.engine != "vllm"), numbers


def _notes(ranked: Sequence[tuple[str, bool]], sets: Mapping[str, Calibration]) -> tuple[str, ...]:
    first, far = ranked[0]
    if not far:
        return ()
    return (f"transferred from `{sets[first].device}`: nothing was measured on this device",)


def _unknown(wanted: str, sets: Mapping[str, Calibration]) -> CatalogError:
    close = nearest_set(wanted, sets)
    known = ", ".join(f"`{name}`" for name in ("auto", "none", *sorted(sets)))
    problem = Problem(
        code="unknown-calibration",
        message=f"there is no parameter set `{wanted}`",
        hint=f"did you mean `{close}`?" if close else f"known: {known}",
    )
    return CatalogError([problem], hint=problem.hint)
