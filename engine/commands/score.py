"""`engine score`: the NKI-LLAMA score of a training run, or new weights for a finished run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.measure.training.reading import Reading
    from engine.score.nki_llama import NkiLlamaScore
    from engine.spec.experiment import Experiment
    from engine.spec.training import TrainingSettings

_CONFIG: Final = "hf_llama3_8B_SFT_config.yaml"
_INFERENCE: Final = "benchmark_inference.json"
_DEVICES: Final = {"trn1": "trainium1", "trn2": "trainium2"}
_OURS: Final = ("nki_kernel_score", "training_score")
"""Keys that tell a file this command wrote from somebody else's."""


@click.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--weights", multiple=True, metavar="METRIC=WEIGHT", help="With RUN: other weights, e.g. tpot_s=0.7."
)
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="With RUN: rows to show."
)
@click.option("--training-script", hidden=True, help="Accepted and not needed: metrics are computed here.")
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
    f"[default: {_INFERENCE} where it exists]",
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
    type=click.Choice(["nki-llama", "nki-llama-document"]),
    default="nki-llama",
    show_default=True,
    help="The text's formula, or the numbers the document prints.",
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
@click.pass_obj
def score(terminal: Terminal, /, run: Path | None, runs: Path, form: str, **options: Any) -> None:
    """Score a training run with custom kernels, or judge RUN again with other weights.

    Without RUN: MFU, kernel usage and the NKI-LLAMA score of what a training run left behind. Exit code 1
    when a file is missing or cannot be read.
    """
    if run is not None:
        from engine.commands.rescore import rescore

        rescore(run, runs=runs, weights=options["weights"], top=options["top"], form=form)
        return
    if options["weights"]:
        raise UsageError("`--weights` needs a RUN", hint="engine score RUN --weights tpot_s=0.7")
    experiment = _experiment(options)
    if options["print_spec"]:
        click.echo(_yaml(experiment), nl=False)
        return
    checked = _checked(experiment)
    settings = _training(checked)
    _require_files(settings)
    reading = _read(settings)
    result = _judge(checked, settings, reading, _stored_results(options["inference_results"]))
    _write(options, settings, reading, result)
    _show(terminal, options, reading, result)


def _experiment(options: dict[str, Any]) -> dict[str, Any]:
    """The experiment a user could have written instead."""
    inference = options["inference_results"]
    if inference is None and Path(_INFERENCE).exists():
        inference = _INFERENCE
    training = {
        "kind": "training",
        "config": options["config"],
        "model": options["model_config"],
        "log_file": options["log_file"],
        "compile_dir": options["compile_dir"],
        "throughput": options["throughput"],
        "backend": options["hw_backend"],
        "devices_per_node": options["devices_per_node"],
        "nodes": options["nodes"],
        "warmup_steps": options["warmup_steps"] or None,
        "inference_results": inference,
    }
    folder = inference if inference is not None and Path(inference).is_dir() else None
    if folder is not None:
        training["inference_results"] = None
    if folder is not None and _is_run(folder):
        folder = None  # finished results of ours are joined as they are: nothing measures them
    numbers = {
        "training_weight": options["training_weight"],
        "inference_weight": options["inference_weight"],
        "reference_latency": f"{options['reference_latency']:.12g} ms",
        "reference_throughput": float(options["reference_throughput"]),
        "base_mfu": options["base_mfu"] / 100,
        "base_throughput": float(options["base_throughput"]),
        "kernel_term": options["kernel_term"],
        "accuracy": options["accuracy"],
        "accuracy_threshold": options["accuracy_threshold"],
    }
    return {
        "version": 1,
        "name": "nki-llama-score",
        "model": options["model_config"],
        "hardware": _DEVICES.get(options["hw_backend"], options["hw_backend"]),
        "measurements": [
            {name: value for name, value in training.items() if value is not None},
            *([{"kind": "run_folder", "path": folder}] if folder is not None else []),
        ],
        "scoring": {
            "preset": options["preset"],
            "nki_llama": {name: value for name, value in numbers.items() if value is not None},
        },
    }


def _yaml(experiment: dict[str, Any]) -> str:
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    yaml.dump(experiment, out)
    return out.getvalue()


def _checked(experiment: dict[str, Any]) -> Experiment:
    """The experiment through the same door as a file; raises `SpecError`."""
    from engine.spec.document import read_document, validate
    from engine.spec.experiment import Experiment

    document = read_document("engine score", data=_yaml(experiment).encode())
    return validate(document, Experiment)


def _training(experiment: Experiment) -> TrainingSettings:
    from engine.spec.training import TrainingSettings

    return next(m for m in experiment.measurements if isinstance(m, TrainingSettings))


def _require_files(settings: TrainingSettings) -> None:
    """One message for each missing file, then exit code 1."""
    from engine.measure.training.reading import missing_files

    missing = list(missing_files(settings, Path.cwd()))
    model = settings.model or ""
    if ("/" in model or model.endswith(".json")) and not Path(model).exists():
        missing.append(f"`model`: `{model}` does not exist")
    for sentence in missing:
        click.echo(f"error: {sentence}", err=True)
    if missing:
        raise click.exceptions.Exit(1)


def _read(settings: TrainingSettings) -> Reading:
    from engine.measure.training.reading import read_training

    try:
        return read_training(settings, Path.cwd())
    except MeasurementError as err:
        click.echo(f"error: {err.message}", err=True)
        if err.hint:
            click.echo(f"  {err.hint}", err=True)
        raise click.exceptions.Exit(1) from err


def _judge(
    experiment: Experiment, settings: TrainingSettings, reading: Reading, stored: Sequence[pa.Table]
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
        click.echo(f"error: no score: {best.reason}", err=True)
        raise click.exceptions.Exit(1)
    if len(judged) == 1:
        return best.result
    named = f"point {best.point}" + (f", {best.variant}" if best.variant and best.variant != "." else "")
    note = f"the best of {len(judged)} inference results: {named} of source `{best.source}`"
    return replace(best.result, notes=(*best.result.notes, note))


def _is_run(folder: str) -> bool:
    from engine.results.documents import PLAN

    return (Path(folder) / PLAN).exists()


def _stored_results(inference: str | None) -> list[pa.Table]:
    """The summary of a finished run of ours; nothing for any other file or folder."""
    if inference is None or not _is_run(inference):
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

    for task in compile_plan(experiment, search=(Path.cwd(),)).tasks:
        if task.kind != "training":
            with tempfile.TemporaryDirectory() as scratch:
                tools = Tools(Path.cwd(), Path(scratch))
                yield find(task.kind).function(task.settings, task, tools)["summary"]


def _write(
    options: dict[str, Any], settings: TrainingSettings, reading: Reading, result: NkiLlamaScore
) -> None:
    from datetime import UTC, datetime

    from engine.measure.training.finetuning import finetuning_document
    from engine.score.nki_llama_text import results_document, training_breakdown
    from engine.score.preset import per_file_scores

    calculated = options["calculate_score"]
    ratios = (
        [file.usage.ratio if file.usage else None for file in reading.kernels.files]
        if reading.kernels
        else []
    )
    training = finetuning_document(
        reading,
        backend=settings.backend,
        training_score=result.training.score if calculated and result.training else None,
        breakdown=training_breakdown(result) if calculated else None,
        file_scores=per_file_scores(result, ratios) if options["per_file_scores"] else None,
    )
    _write_json(options["training_output"], training)
    now = datetime.now(UTC).astimezone().replace(tzinfo=None)  # local time, as the document has it
    _write_json(options["output"], results_document(result, at=now, calculated=calculated))


def _write_json(target: Path, document: dict[str, Any]) -> None:
    """Write a result anew, never reuse one; a file that is no result of this command stays untouched."""
    from engine.results.atomic import write_whole

    if target.exists() and not _is_ours(target):
        raise UsageError(
            f"`{target}` exists and is no result of `engine score`",
            hint="choose another `--output`, or remove it",
        )
    write_whole(target, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _is_ours(target: Path) -> bool:
    try:
        found = json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and any(key in found for key in _OURS)


def _show(terminal: Terminal, options: dict[str, Any], reading: Reading, result: NkiLlamaScore) -> None:
    from engine.score.nki_llama_text import console, detailed, figures
    from engine.score.preset import factor_rows, per_file_scores

    click.echo(console(figures(result, calculated=options["calculate_score"])), nl=False)
    if options["detailed"] and options["calculate_score"]:
        click.echo(detailed(result, [dict(row) for row in factor_rows(result)]), nl=False)
    if options["per_file_scores"] and reading.kernels:
        ratios = [file.usage.ratio if file.usage else None for file in reading.kernels.files]
        for file, own in zip(reading.kernels.files, per_file_scores(result, ratios), strict=True):
            words = f"failed: {file.error}" if file.usage is None else f"ratio {file.usage.ratio or 0:.4f}"
            shown = "" if own is None or not options["calculate_score"] else f", score {own:.4f}"
            click.echo(f"{file.name}: {words}{shown}")
    if not options["calculate_score"]:
        terminal.say("no score was calculated: add --calculate-score")
    for note in (*reading.notes, *result.notes):
        terminal.say(f"note: {note}")
    if options["verbose"]:
        terminal.say(f"throughput: {reading.throughput_origin}")
        if reading.utilization:
            use = reading.utilization
            terminal.say(f"peak of a node: {use.peak.basis}")
            if use.causal is not None:
                terminal.say(f"MFU by the causal convention: {use.causal:.2%}")
    terminal.say(f"wrote {options['training_output']} and {options['output']}")
