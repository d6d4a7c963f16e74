"""What `engine score` writes and shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.commands.console import Terminal
    from engine.measure.training.reading import Reading
    from engine.score.nki_llama import NkiLlamaScore
    from engine.spec.training import TrainingSettings

_OURS: Final = ("nki_kernel_score", "training_score")
"""Keys that tell a file this command wrote from somebody else's."""


def require_targets(options: Mapping[str, Any]) -> None:
    """Raise `UsageError` before anything is read where a result cannot be written."""
    targets = {name: Path(options[name.replace("-", "_")]) for name in ("output", "training-output")}
    if len({target.absolute() for target in targets.values()}) < len(targets):
        raise UsageError(
            f"`--output` and `--training-output` are both `{options['output']}`", hint="name two files"
        )
    for name, target in targets.items():
        if not target.absolute().parent.is_dir():
            raise UsageError(f"`--{name} {target}`: there is no folder `{target.parent}`")
        if target.exists() and not _is_ours(target):
            raise UsageError(
                f"`{target}` exists and is no result of `engine score`",
                hint=f"choose another `--{name}`, or remove it",
            )


def _is_ours(target: Path) -> bool:
    try:
        found = json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and any(key in found for key in _OURS)


def write(
    options: Mapping[str, Any], settings: TrainingSettings, reading: Reading, result: NkiLlamaScore
) -> None:
    """Both files anew; what an earlier call left is never read again."""
    from datetime import UTC, datetime

    from engine.measure.training.finetuning import finetuning_document
    from engine.results.atomic import write_whole
    from engine.score.nki_llama_text import results_document, training_breakdown

    calculated = options["calculate_score"]
    training = finetuning_document(
        reading,
        backend=settings.backend,
        training_score=result.training.score if calculated and result.training else None,
        breakdown=training_breakdown(result) if calculated else None,
        file_scores=_file_scores(reading, result) if options["per_file_scores"] else None,
    )
    now = datetime.now(UTC).astimezone().replace(tzinfo=None)  # local time, as the document has it
    results = results_document(result, at=now, calculated=calculated)
    texts = {name: _json(found) for name, found in (("training_output", training), ("output", results))}
    for name, text in texts.items():
        write_whole(options[name], text)


def _file_scores(reading: Reading, result: NkiLlamaScore) -> list[float | None]:
    """The training score of each compiled module, in the order of the files."""
    from engine.score.preset import per_file_scores

    files = reading.kernels.files if reading.kernels else ()
    return per_file_scores(result, [file.usage.ratio if file.usage else None for file in files])


def _json(document: Mapping[str, Any]) -> str:
    try:
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as err:
        raise UsageError(
            "a result is larger than any number",
            hint="look at the throughput, the references and the bases: one of them is far off",
        ) from err


def show(terminal: Terminal, options: Mapping[str, Any], reading: Reading, result: NkiLlamaScore) -> None:
    """The document's block, then what was asked for beside it; remarks go to the error stream."""
    from engine.score.nki_llama_text import detailed, result_block
    from engine.score.preset import factor_rows

    calculated = options["calculate_score"]
    click.echo(result_block(result, calculated=calculated), nl=False)
    if options["detailed"] and calculated:
        click.echo(detailed(result, [dict(row) for row in factor_rows(result)]), nl=False)
    if options["per_file_scores"] and reading.kernels:
        _show_files(reading, _file_scores(reading, result), calculated=calculated)
    if not calculated:
        terminal.say("no score was calculated: add --calculate-score")
    for note in (*reading.notes, *result.notes):
        terminal.say(f"note: {note}")
    if options["training_script"]:
        terminal.say(f"note: `{options['training_script']}` was not run: metrics are computed in process")
    if options["verbose"]:
        _show_sources(terminal, reading)
    terminal.say(f"wrote {options['training_output']} and {options['output']}")


def _show_files(reading: Reading, scores: list[float | None], *, calculated: bool) -> None:
    for file, own in zip(reading.kernels.files if reading.kernels else (), scores, strict=True):
        if file.usage is None:
            words = f"failed: {file.error}"
        elif file.usage.ratio is None:
            words = "no ratio: no multiply-adds were counted"
        else:
            words = f"ratio {file.usage.ratio:.4f}"
        shown = "" if own is None or not calculated else f", score {own:.4f}"
        click.echo(f"{file.name}: {words}{shown}")


def _show_sources(terminal: Terminal, reading: Reading) -> None:
    terminal.say(f"throughput: {reading.throughput_origin}")
    if reading.utilization:
        use = reading.utilization
        terminal.say(f"peak of a node: {use.peak.basis}")
        if use.causal is not None:
            terminal.say(f"MFU by the causal convention: {use.causal:.2%}")
    if reading.inference is None:
        return
    terminal.say(f"inference results: {reading.inference.path.name}")
    for name, part in reading.inference.models.items():
        terminal.say(f"{name}: throughput x latency is {part.tokens:.4g} tokens a call")
