"""`engine make-model`: a checkpoint with random weights and a tokenizer, for servers that load folders."""

from __future__ import annotations

from pathlib import Path

import click

from engine.commands.console import Terminal
from engine.errors import UsageError


@click.command("make-model")
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--dtype", "-d", type=click.Choice(["bf16", "fp16", "fp32"]), default="bf16", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.pass_obj
def make_model(terminal: Terminal, model: str, folder: Path, dtype: str, seed: int) -> None:
    """Write MODEL (catalogue or hub name, config.json) with random weights into FOLDER; no download.

    The shape is exact, the tokenizer has as many entries as the model, answers never end early: any server
    that loads Hugging Face folders can then be measured.
    """
    from engine.measure.live.oom import available_memory, check_memory
    from engine.measure.local_model import LocalRequest, build_local_model
    from engine.measure.local_tokenizer import trained_tokenizer
    from engine.spec.catalog import load_model, load_quantization
    from engine.spec.workload import Workload

    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"`{folder}` is not empty", hint="name a new folder")
    shape = load_model(model, search=[Path.cwd()])
    check = check_memory(
        shape, load_quantization(dtype), Workload(prompt_tokens=1, output_tokens=1), sequences=1,
        available=available_memory("cpu"),
    )  # fmt: skip
    if check.verdict == "does_not_fit":
        raise UsageError(f"`{model}` does not fit into this machine: {check.sentence}")
    local = build_local_model(LocalRequest(shape, device="cpu", dtype=dtype, seed=seed))
    local.module.save_pretrained(str(folder))
    trained_tokenizer(local.vocab_size).save_pretrained(str(folder))
    terminal.say(
        f"{local.observed['architecture']}, {int(local.observed['parameters']):,} parameters, {dtype}"
    )
    click.echo(str(folder))
