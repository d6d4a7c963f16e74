"""`engine catalog`: the devices, models and number formats a spec can name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.commands.console import Terminal
from engine.commands.options import output_format

if TYPE_CHECKING:
    from engine.spec.catalog import Entry, Kind

KIND = click.Choice(["hardware", "model", "quantization", "calibration"])


@click.group()
def catalog() -> None:
    """List, show and check the catalogue. Files beside the current folder come before the packaged ones."""


@catalog.command("list")
@click.argument("kind", type=KIND, required=False)
@click.option("--grep", "needle", default="", metavar="TEXT", help="Only names that contain TEXT.")
@output_format("human", "json")
@click.pass_obj
def list_entries(terminal: Terminal, kind: Kind | None, needle: str, output: str) -> None:
    """List every entry of KIND, or of all kinds."""
    from engine.spec.catalog import KINDS, entries

    kinds = [kind] if kind else list(KINDS)
    found = {
        k: [e for e in entries(k, search=(Path.cwd(),)) if needle.lower() in e.name.lower()] for k in kinds
    }
    if output == "json":
        click.echo(json.dumps({k: [_as_data(e) for e in es] for k, es in found.items()}, indent=2))
        return
    console = terminal.console()
    for name, group in found.items():
        console.print(f"{name} ({len(group)})", style="bold")
        width = max((len(e.name) for e in group), default=0)
        for entry in group:
            console.print(f"  {entry.name:<{width}}  {entry.summary}", markup=False)


def _as_data(entry: Entry) -> dict[str, str]:
    return {"name": entry.name, "summary": entry.summary, "file": str(entry.path)}


@catalog.command()
@click.argument("name")
@click.option("--kind", type=KIND, help="Which kind, where a name stands for several.")
def show(name: str, kind: Kind | None) -> None:
    """Print the entry NAME as YAML, with its sources."""
    from engine.errors import CatalogError
    from engine.spec.catalog import KINDS, find

    kinds = [kind] if kind else list(KINDS)
    failures = []
    for each in kinds:
        try:
            path = find(each, name, search=(Path.cwd(),))
        except CatalogError as err:
            failures.append(err)
            continue
        click.echo(f"# {path}\n{path.read_text(encoding='utf-8').rstrip()}")
        return
    raise min(failures, key=lambda err: err.hint is None)


@catalog.command()
@output_format("human", "json")
@click.pass_obj
def lint(terminal: Terminal, output: str) -> None:
    """Check every device and format against the rules of the data-sheet conventions."""
    from engine.spec.lint import lint_catalogue

    findings = lint_catalogue(search=(Path.cwd(),))
    if output == "json":
        click.echo(json.dumps([finding.as_data() for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(str(finding))
    errors = [finding for finding in findings if finding.severity == "error"]
    if output == "human":
        terminal.say(f"{len(findings)} findings, {len(errors)} errors")
    if errors:
        raise click.exceptions.Exit(1)
