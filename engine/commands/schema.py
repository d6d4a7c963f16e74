"""`engine schema`: the JSON Schemas behind completion and diagnostics in editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from engine.commands.console import Terminal


@click.command()
@click.argument("name", default="experiment")
@click.option("--write", type=click.Path(path_type=Path), metavar="DIR", help="Write all schemas into DIR.")
@click.option("--check", is_flag=True, help="Fail when the committed schemas differ from the code.")
@click.pass_obj
def schema(terminal: Terminal, name: str, write: Path | None, check: bool) -> None:
    """Print the schema NAME (experiment, hardware, model, quantization or calibration)."""
    from engine.errors import ThresholdError, UsageError
    from engine.spec.schema import build_schemas, check_drift, write_schemas

    if check:
        changed = check_drift()
        if changed:
            raise ThresholdError(
                "schemas differ from the code: " + ", ".join(f"`{n}`" for n in changed),
                hint="run `engine schema --write schemas`",
            )
        terminal.say("schemas match the code")
    elif write is not None:
        write_schemas(write)
    else:
        found = build_schemas()
        if f"{name}.v1.json" not in found:
            known = ", ".join(n.removesuffix(".v1.json") for n in found)
            raise UsageError(f"no schema `{name}`", hint=f"schemas: {known}")
        click.echo(json.dumps(found[f"{name}.v1.json"], indent=2))
