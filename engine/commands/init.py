"""`engine init`: a new repository of experiments, ready for an editor and for `engine run`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from engine.commands.console import Terminal
from engine.errors import UsageError

_SPEC: Final = """\
# yaml-language-server: $schema=../.engine/experiment.v1.json
#
# A first experiment: what does a model cost on two devices, in two number formats, at growing batch?
# `engine check`, `engine plan`, `engine run` - in this order. Hover a key in your editor to see what it does.
version: 1
name: first-sweep
model: llama-3.1-8b            # `engine catalog list model`, a path to a config.json, or an inline mapping
hardware: h100-sxm-80gb        # `engine catalog list hardware`
quantization: bf16             # `engine catalog list quantization`
workload:
  prompt_tokens: 2048
  output_tokens: 256
  batch_size: 1
sweep:
  axes:                        # every combination; name any field by its path
    hardware: [h100-sxm-80gb, a100-sxm-80gb]
    quantization: [bf16, w4a16-g128]
    workload.batch_size: [1, 8, 32, 128]
  drop: []                     # - {when: {hardware: ..., quantization: ...}, because: why}
measurements:
  - kind: analytical           # predicted from operator counts and the data sheet
    reserve: 2 GB              # what the framework takes on each device
scoring:
  objectives:
    - {metric: output_tokens_per_s_per_device, weight: 1.0, reference: 1000}
  require: {tpot_s: "<= 50 ms"}
report:
  formats: [html, pdf, xlsx]
"""

_README: Final = """\
# Experiments

Each file in `specs/` is one experiment; results land in `runs/` and are not committed.

    engine check specs/first_sweep.yaml     # every mistake, located
    engine plan specs/first_sweep.yaml      # what a run would do
    engine run specs/first_sweep.yaml       # results and reports in runs/first-sweep/

Devices and models of your own go into `hardware/` and `specs/models/` and are found before the shipped
ones. `engine schema --write .engine` renews the schemas after an update of the engine.
"""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--example-runs", type=click.Path(path_type=Path), metavar="DIR", help="Write a small tree of logs."
)
@click.pass_obj
def init(terminal: Terminal, folder: Path, example_runs: Path | None) -> None:
    """Write a commented spec, editor settings, schemas and a README into FOLDER. Overwrites nothing."""
    if example_runs is not None:
        from engine.measure.run_folder.example import write_example_runs

        write_example_runs(example_runs)
        terminal.say(
            f"example runs in {example_runs}; read them with `engine ingest -i {example_runs} -o runs.xlsx`"
        )
        return
    from engine.spec.schema import write_schemas

    files = {
        folder / "specs" / "first_sweep.yaml": _SPEC,
        folder / "README.md": _README,
        folder / ".gitignore": "runs/\n",
        folder / ".vscode" / "settings.json": json.dumps(_EDITOR, indent=2) + "\n",
    }
    existing = [str(path) for path in files if path.exists()]
    if existing:
        raise UsageError("these files exist already: " + ", ".join(existing), hint="choose an empty folder")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(str(path))
    write_schemas(folder / ".engine")
    terminal.say(f"next: engine check {folder / 'specs' / 'first_sweep.yaml'}")


_EDITOR: Final = {
    "yaml.schemas": {
        "./.engine/experiment.v1.json": ["specs/*.yaml", "*.engine.yaml"],
        "./.engine/hardware.v1.json": ["hardware/*.yaml"],
        "./.engine/model.v1.json": ["specs/models/*.yaml"],
        "./.engine/quantization.v1.json": ["specs/quantization/*.yaml"],
    },
    "yaml.validate": True,
    "yaml.schemaStore.enable": False,
}
