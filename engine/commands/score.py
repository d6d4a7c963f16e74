"""`engine score`: the NKI-LLAMA score of a training run, or new weights for a finished run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.commands.score_spec import (
    CONTEST,
    INFERENCE,
    as_yaml,
    checked,
    is_run,
    nki_llama_numbers,
    score_experiment,
)
from engine.errors import LocatedError, MeasurementError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.measure.training.reading import Reading
    from engine.score.nki_llama import NkiLlamaScore
    from engine.spec.experiment import Experiment
    from engine.spec.training import TrainingSettings

_CONFIG: Final = "hf_llama3_8B_SFT_config.yaml"
_OF_A_RUN: Final = ("run", "runs", "weights", "top", "form")
"""Options that judge a finished run and nothing else."""
_OF_BOTH: Final = (
    "preset", "kernel_term", "training_weight", "inference_weight", "reference_latency",
    "reference_throughput", "base_mfu", "base_throughput", "accuracy", "accuracy_threshold",
)  # fmt: skip
"""Numbers of the NKI-LLAMA presets, which judge a finished run too."""


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--weights", multiple=True, metavar="METRIC=WEIGHT", help="With RUN: other weights, e.g. tpot_s=0.7."
)
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="With RUN: rows to show."
)
@click.option(
    "--training-script", help="Accepted and never run: metrics are computed in process.  [default: none]"
)
@click.option("--config", default=_CONFIG, show_default=True, help="Training configuration (YAML).")
@click.option(
    "--model-config", default="config.json", show_default=True, help="Model config.json, or a catalogue name."
)
@click.option("--log-file", help="Training log, or a folder of TensorBoard events.  [default: none]")
@click.option(
    "--compile-dir", default="neuron_cache", show_default=True, help="Compile cache with HLO modules."
)
@click.option(
    "--throughput",
    type=float,
    help="Training throughput in sequences/s.  [default: mean of the log; the document uses 2.1]",
)
@click.option("--hw-backend", default="trn1", show_default=True, help="trn1, trn2, or a catalogue device.")
@click.option(
    "--devices-per-node", type=click.IntRange(min=1), help="Devices of a node, for catalogue devices."
)
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    help="Nodes that trained.  [default: from the configuration, else 1]",
)
@click.option(
    "--warmup-steps",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Steps cut from averages.",
)
@click.option(
    "--inference-results",
    help="Inference report, or a folder with results of any run; training-only mode without one.  "
    f"[default: {INFERENCE} where it exists]",
)
@click.option(
    "--prompt-results",
    multiple=True,
    metavar="FILE",
    help="For the contest: inference report of prompt 0, then of prompt 1 and so on; repeatable.",
)
@click.option(
    "--prompt-baselines",
    metavar="FILE",
    help="For the contest: baseline latency and tokens/s of each prompt (JSON or lines of numbers).  "
    "[default: the references below]",
)
@click.option(
    "--reference-latency", type=float, default=50000, show_default=True, help="Reference latency in ms."
)
@click.option("--reference-throughput", type=float, default=10, show_default=True, help="Reference tokens/s.")
@click.option("--base-mfu", type=float, default=50, show_default=True, help="MFU in per cent that counts 1.")
@click.option(
    "--base-throughput", type=float, default=100, show_default=True, help="Sequences/s that count 1."
)
@click.option(
    "--accuracy", type=float, help="Share of accuracy checks passed, 0 to 1.  [default: from the report]"
)
@click.option("--accuracy-threshold", type=float, help="Accuracy from which on it counts.  [default: 1]")
@click.option(
    "--training-weight", type=float, default=0.4, show_default=True, help="Weight of the training score."
)
@click.option(
    "--inference-weight", type=float, default=0.6, show_default=True, help="Weight of the inference score."
)
@click.option(
    "--preset",
    type=click.Choice(["nki-llama", "nki-llama-document", CONTEST]),
    default="nki-llama",
    show_default=True,
    help="The text's formula, the numbers the document prints, or the contest's sum over prompts.",
)
@click.option(
    "--kernel-term",
    type=click.Choice(["one_plus_ratio", "tenth_plus_ratio"]),
    default="one_plus_ratio",
    show_default=True,
    help="Kernel factor of the training score.",
)
@click.option(
    "--calculate-score", is_flag=True, help="Calculate the score; without it only metrics are shown."
)
@click.option("--per-file-scores", is_flag=True, help="A training score for each compiled module.")
@click.option("--detailed", is_flag=True, help="Show every factor with its arithmetic.")
@click.option("--verbose", is_flag=True, help="Show notes, sources and what was read.")
@click.option(
    "--output",
    default="benchmark_results.json",
    show_default=True,
    type=click.Path(path_type=Path),
    help="File for the results.",
)
@click.option(
    "--training-output",
    default="benchmark_finetuning.json",
    show_default=True,
    type=click.Path(path_type=Path),
    help="File for the training metrics.",
)
@click.option("--print-spec", is_flag=True, help="Print the spec this stands for and stop.")
@RUNS
@click.option(
    "--format",
    "form",
    type=click.Choice(["human", "json"]),
    default="human",
    show_default=True,
    help="With RUN: output format.",
)
@click.pass_context
def score(context: click.Context, /, run: Path | None, runs: Path, form: str, **options: Any) -> None:
    """Score a training run with custom kernels, or judge RUN again with other weights.

    Without RUN: MFU, kernel usage and the NKI-LLAMA score of what a training run left behind. Exit code 1
    when a file is missing or cannot be read. With RUN: its ranking under other weights, or under other
    numbers of the NKI-LLAMA presets; nothing is measured.
    """
    given = [name for name in context.params if _given(context, name)]
    if run is not None:
        _rescore(run, runs=runs, form=form, options=options, given=given)
        return
    for name in given:
        if name in _OF_A_RUN:
            shown = f"`{_flag(name)}`"
            raise UsageError(f"{shown} needs a RUN", hint="engine score RUN --weights tpot_s=0.7")
    terminal: Terminal = context.obj
    experiment = _experiment(options)
    if options["print_spec"]:
        click.echo(as_yaml(experiment), nl=False)
        return
    _score(terminal, checked(experiment), options)


def _score(terminal: Terminal, experiment: Experiment, options: dict[str, Any]) -> None:
    """Read, judge, write both files, show the document's block."""
    from engine.commands.score_output import require_targets, show, write

    settings = _training(experiment)
    require_targets(options)
    _require_files(settings)
    reading = _read(settings)
    stored = _stored_results(options["inference_results"])
    result = _judge(experiment, settings, reading, stored, asked=options["calculate_score"])
    write(options, settings, reading, result)
    show(terminal, options, reading, result)


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def _flag(name: str) -> str:
    return "--format" if name == "form" else f"--{name.replace('_', '-')}"


def _rescore(run: Path, *, runs: Path, form: str, options: dict[str, Any], given: Sequence[str]) -> None:
    """A finished run judged again; options that would read a training run do not belong to it."""
    from engine.commands.rescore import rescore

    foreign = [name for name in given if name not in (*_OF_A_RUN, *_OF_BOTH)]
    if foreign:
        raise UsageError(
            f"{', '.join(f'`{_flag(name)}`' for name in foreign)} cannot go with a RUN, which is judged from "
            "its stored results",
            hint="leave out RUN to read a training run",
        )
    numbers = {name: options[name] for name in given if name in _OF_BOTH}
    preset = numbers.pop("preset", None)
    rescore(
        run, runs=runs, weights=options["weights"], top=options["top"], form=form, preset=preset,
        numbers=nki_llama_numbers(numbers),
    )  # fmt: skip


def _experiment(options: dict[str, Any]) -> dict[str, Any]:
    """The spec, or exit code 1 where the table of prompts cannot be read."""
    try:
        return score_experiment(options)
    except MeasurementError as err:
        raise _unreadable(err) from err


def _unreadable(err: MeasurementError) -> click.exceptions.Exit:
    """What a file lacks, said, and the exit code for it."""
    click.echo(f"error: {err.message}", err=True)
    if err.hint:
        click.echo(f"  {err.hint}", err=True)
    return click.exceptions.Exit(1)


def _training(experiment: Experiment) -> TrainingSettings:
    from engine.spec.training import TrainingSettings

    return next(m for m in experiment.measurements if isinstance(m, TrainingSettings))


def _require_files(settings: TrainingSettings) -> None:
    """One message for each missing file, then exit code 1."""
    from engine.measure.training.reading import missing_files

    missing = [*missing_files(settings, Path.cwd()), *_missing_model(settings.model)]
    for sentence in missing:
        click.echo(f"error: {sentence}", err=True)
    if missing:
        raise click.exceptions.Exit(1)


def _missing_model(name: str | None) -> Iterator[str]:
    """A model that is neither a file nor in the catalogue."""
    from engine.spec.catalog import find

    if not name or Path(name).exists():
        return
    if "/" in name or name.endswith(".json"):
        yield f"`model`: `{name}` does not exist"
        return
    try:
        find("model", name, search=(Path.cwd(),))
    except LocatedError as err:
        yield f"`model`: {err.message}" + (f"; {err.hint}" if err.hint else "")


def _read(settings: TrainingSettings) -> Reading:
    from engine.measure.training.reading import read_training

    try:
        return read_training(settings, Path.cwd())
    except MeasurementError as err:
        raise _unreadable(err) from err


def _judge(
    experiment: Experiment,
    settings: TrainingSettings,
    reading: Reading,
    stored: Sequence[pa.Table],
    *,
    asked: bool,
) -> NkiLlamaScore:
    from engine.measure.training.tables import tables_of
    from engine.results.tables import concatenate
    from engine.score.preset import judge_preset

    if experiment.scoring is None:
        raise UsageError("nothing to judge by")
    found = [tables_of(settings, reading)["summary"], *_other_results(experiment), *stored]
    judged = judge_preset(experiment.scoring, concatenate("summary", found))
    best = judged[0]
    if best.result is None:
        click.echo(f"error: {'no score: ' if asked else ''}{best.reason}", err=True)
        for note in reading.notes:
            click.echo(f"  {note}", err=True)
        raise click.exceptions.Exit(1)
    if len(judged) == 1:
        return best.result
    named = f"point {best.point}" + (f", {best.variant}" if best.variant and best.variant != "." else "")
    note = f"the best of {len(judged)} inference results: {named} of source `{best.source}`"
    return replace(best.result, notes=(*best.result.notes, note))


def _stored_results(inference: str | None) -> list[pa.Table]:
    """The summary of a finished run of ours; nothing for any other file or folder."""
    if inference is None or not is_run(inference):
        return []
    from engine.run.stored import open_run

    stored = open_run(Path(inference))
    with stored.store:
        return [stored.store.read(stored.plan, "summary")]


def _other_results(experiment: Experiment) -> Iterator[pa.Table]:
    """Summaries of the measurements that read somebody's results, through the same door as in a run."""
    import tempfile

    from engine.measure.registry import Tools, find
    from engine.plan.compile import compile_plan

    if len(experiment.measurements) == 1:
        return  # the training run alone, which was read already
    for task in compile_plan(experiment, search=(Path.cwd(),)).tasks:
        if task.kind != "training":
            with tempfile.TemporaryDirectory() as scratch:
                tools = Tools(Path.cwd(), Path(scratch))
                yield find(task.kind).function(task.settings, task, tools)["summary"]
