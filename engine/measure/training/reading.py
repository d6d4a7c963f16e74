"""Everything a training run left behind, read and worked out once."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import LocatedError, MeasurementError
from engine.measure.training.cache import KernelSummary, read_cache
from engine.measure.training.config import LENGTHS, TrainingConfig, read_training_config
from engine.measure.training.hlo import Counting
from engine.measure.training.inference import InferenceReport, read_inference
from engine.measure.training.logs import ABOVE_ZERO, TrainingLog, read_log
from engine.measure.training.mfu import (
    NodePeak,
    causal_flops,
    mfu,
    node_peak,
    reference_departures,
    reference_flops,
)
from engine.results.estimate import Estimate
from engine.results.student import t_quantile
from engine.spec.catalog import load_model
from engine.spec.model import Model
from engine.spec.training import TrainingSettings


@dataclass(frozen=True)
class Utilization:
    """MFU and what it is made of."""

    peak: NodePeak
    reference_flops: int | None
    """FLOPs of a training sequence by the reference convention; None for models it does not describe."""
    causal_flops: int | None
    """The same by the causal convention."""
    reference: float | None
    """MFU by the reference convention, 1 being the whole peak."""
    causal: float | None


@dataclass(frozen=True)
class Reading:
    """A training run; None for what was not there or is not known, with the reason in `notes`."""

    model: Model | None
    config: TrainingConfig | None
    log: TrainingLog | None
    kernels: KernelSummary | None
    inference: InferenceReport | None
    prompts: tuple[InferenceReport, ...]
    """Reports of single prompts, in order."""
    sequence_length: int | None
    batch_size: int | None
    nodes: int
    throughput: Estimate | None
    """Sequences per second over all nodes."""
    throughput_origin: str
    """Where the throughput comes from, for people."""
    utilization: Utilization | None
    notes: tuple[str, ...]


def missing_files(settings: TrainingSettings, folder: Path) -> tuple[str, ...]:
    """One sentence for each file or folder of the settings that is not there."""
    expected = (
        ("log_file", settings.log_file),
        ("config", settings.config),
        ("compile_dir", settings.compile_dir),
        ("inference_results", settings.inference_results),
        *(("prompt_results", path) for path in settings.prompt_results),
    )
    return tuple(
        f"`{name}`: `{path}` does not exist"
        for name, path in expected
        if path and not (folder / path).exists()
    )


def read_training(settings: TrainingSettings, folder: Path) -> Reading:
    """A training run; paths start at `folder`. Raises `MeasurementError` naming every missing file."""
    missing = missing_files(settings, folder)
    if missing:
        raise MeasurementError("; ".join(missing))
    notes: list[str] = []
    config = read_training_config(folder / settings.config) if settings.config else None
    log = read_log(folder / settings.log_file) if settings.log_file else None
    kernels = read_cache(folder / settings.compile_dir, _counting(settings)) if settings.compile_dir else None
    inference = read_inference(folder / settings.inference_results) if settings.inference_results else None
    prompts = tuple(read_inference(folder / path) for path in settings.prompt_results)
    model = _model(settings.model, folder) if settings.model else None
    throughput, origin = _throughput(settings, log)
    length = settings.sequence_length or (config.sequence_length if config else None)
    nodes = settings.nodes or (config.nodes if config else None) or 1
    utilization = None
    lacking = [
        name
        for name, value in (("model", model), ("sequence_length", length), ("throughput", throughput))
        if value is None
    ]
    if lacking:
        notes.append(f"no MFU without {', '.join(f'`{name}`' for name in lacking)}")
        if config and length is None:
            notes.append(f"`{config.path.name}` states no number in `{LENGTHS[0]}`")
    elif model and length and throughput:
        utilization = _utilization(settings, model, length, throughput.mean, nodes, folder, notes)
    notes += model.assumptions if model else ()
    for part in (config, inference, *prompts):
        notes += part.notes if part else ()
    notes += _log_notes(log)
    notes += _kernel_notes(kernels)
    return Reading(
        model, config, log, kernels, inference, prompts, length,
        settings.batch_size or (config.batch_size if config else None),
        nodes, throughput, origin, utilization, tuple(notes),
    )  # fmt: skip


def _counting(settings: TrainingSettings) -> Counting:
    return Counting(tuple(settings.kernel_targets), settings.count_convolutions)


def _model(name: str, folder: Path) -> Model:
    try:
        return load_model(name, search=(folder,))
    except LocatedError as err:
        named = err.message if name in err.message else f"`{name}`: {err.message}"
        raise MeasurementError(named, hint=err.hint) from err


def _throughput(settings: TrainingSettings, log: TrainingLog | None) -> tuple[Estimate | None, str]:
    """The spec's own number before the mean of the log; a log without one is an error, never a default."""
    if settings.throughput is not None:
        return Estimate(settings.throughput, None, None, 1), "stated by hand"
    if log is None:
        return None, "not known: no log and no number"
    values = [
        s.sequences_per_s for s in log.after_warmup(settings.warmup_steps) if s.sequences_per_s is not None
    ]
    if not values:
        cut = f" after {settings.warmup_steps} warm-up steps" if settings.warmup_steps else ""
        raise MeasurementError(
            f"`{log.path}` holds no throughput{cut}", hint="give `throughput` in sequences per second"
        )
    return _estimate(values), f"mean of {len(values)} lines of `{log.path.name}`"


def _estimate(values: Sequence[float]) -> Estimate:
    """Mean of logged averages. Runs of equal values are one observation each, as most logs repeat the last
    average until the next one; they still weigh in the mean with their length."""
    mean = statistics.fmean(values)
    runs = 1 + sum(a != b for a, b in itertools.pairwise(values))
    if runs < 3:
        return Estimate(mean, None, None, runs)
    half = t_quantile(runs - 1) * statistics.stdev(values) / math.sqrt(runs)
    return Estimate(mean, mean - half, mean + half, runs)


def _utilization(
    settings: TrainingSettings,
    model: Model,
    tokens: int,
    throughput: float,
    nodes: int,
    folder: Path,
    notes: list[str],
) -> Utilization:
    peak = _peak(settings, folder)
    found: list[tuple[int | None, float | None]] = []
    for name, flops_of in (("reference", reference_flops), ("causal", causal_flops)):
        try:
            flops = flops_of(model, tokens).training
        except MeasurementError as err:
            notes.append(err.message)
            found.append((None, None))
            continue
        share = mfu(flops, throughput, nodes=nodes, peak_flops_per_s=peak.flops_per_s)
        found.append((flops, share))
        if share > 1:
            above = f"{share:.1%}, above the peak of {peak.basis}"
            notes.append(f"MFU by the {name} convention is {above}: some input is wrong")
    (reference, reference_share), (causal, causal_share) = found
    notes += reference_departures(model) if reference is not None else ()
    return Utilization(peak, reference, causal, reference_share, causal_share)


def _peak(settings: TrainingSettings, folder: Path) -> NodePeak:
    try:
        return node_peak(
            settings.backend,
            devices=settings.devices_per_node,
            precision=settings.precision,
            search=(folder,),
        )
    except LocatedError as err:
        raise MeasurementError(err.message, hint=err.hint) from err


def _log_notes(log: TrainingLog | None) -> Iterator[str]:
    if log is None:
        return
    yield from log.notes
    for name, count in log.left_out.items():
        lines = "1 line" if count == 1 else f"{count:,} lines"
        least = " above 0" if name in ABOVE_ZERO else ""
        yield f"`{name}` is no finite number{least} in {lines} of the log, which are left out"


def _kernel_notes(kernels: KernelSummary | None) -> Iterator[str]:
    if kernels is None:
        return
    if kernels.failed:
        names = ", ".join(f"`{file.name}` ({file.error})" for file in kernels.failed[:5])
        more = f" and {len(kernels.failed) - 5} more" if len(kernels.failed) > 5 else ""
        yield f"{len(kernels.failed)} of {len(kernels.files)} HLO modules could not be read: {names}{more}"
    for note, count in Counter(note for usage in kernels.read for note in usage.notes).items():
        yield f"{note}, in {count:,} of {len(kernels.read):,} modules"
    if kernels.ratio is None:
        yield "no multiply-adds were counted, so there is no kernel ratio"
