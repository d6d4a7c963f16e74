"""`engine explain`: what a metric, an exit code or a message code means."""

from __future__ import annotations

import difflib
import json

import click

from engine.commands.console import Terminal
from engine.commands.options import output_format
from engine.errors import UsageError
from engine.metrics import METRICS

EXIT_CODES = {
    "0": "done",
    "1": "ran; a threshold or a finding failed",
    "2": "usage or spec error; nothing was run",
    "3": "the environment lacks something that was asked for",
    "4": "partial: some points failed; the rest is saved and reported",
    "5": "nothing selected: a filter or a drop rule left nothing to do",
    "10": "`engine plan --exit-code`: work is pending",
    "130": "interrupted; what was finished is saved",
}


@click.command()
@click.argument("what", required=False)
@output_format("human", "json", "md")
@click.pass_obj
def explain(terminal: Terminal, what: str | None, output: str) -> None:
    """Explain WHAT: a metric such as `ttft_s`, an exit code such as `4`, or a code such as `unknown-key`.
    Without WHAT, list all of them; `--format md` prints the glossary of metrics."""
    from engine.spec.codes import CODES

    facts = {
        **{name: metric.definition for name, metric in METRICS.items()},
        **EXIT_CODES,
        **CODES,
    }
    if output == "md":
        click.echo(glossary(), nl=False)
    elif what is None:
        _print(terminal, facts, output)
    elif what in METRICS:
        metric = METRICS[what]
        fields = {
            "metric": metric.name,
            "label": metric.label,
            "unit": metric.unit or "none",
            "definition": metric.definition,
            "formula": metric.formula or "measured or counted directly",
            "better": {"higher": "more", "lower": "less", "neutral": "neither"}[metric.direction],
        }
        _print(terminal, fields, output)
    elif what in facts:
        _print(terminal, {what: facts[what]}, output)
    else:
        near = difflib.get_close_matches(what, facts, n=3)
        hint = (
            "did you mean " + ", ".join(f"`{n}`" for n in near) + "?"
            if near
            else "`engine explain` lists all"
        )
        raise UsageError(f"nothing is called `{what}`", hint=hint)


def glossary() -> str:
    """Every metric as Markdown, one table a group: what `docs/metrics.md` holds."""
    lines = [
        "# Metrics",
        "",
        "Written by `engine explain --format md`. A name ends in its unit; tables hold base units.",
    ]
    for group in dict.fromkeys(metric.group for metric in METRICS.values()):
        lines += [
            "",
            f"## {group.capitalize()}",
            "",
            "| name | label | unit | better | definition | formula |",
        ]
        lines.append("|---|---|---|---|---|---|")
        for metric in (m for m in METRICS.values() if m.group == group):
            cells = (
                f"`{metric.name}`",
                metric.label,
                metric.unit or "-",
                {"higher": "more", "lower": "less", "neutral": "-"}[metric.direction],
                metric.definition,
                metric.formula or "-",
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _print(terminal: Terminal, facts: dict[str, str], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(facts, indent=2))
        return
    width = max(len(name) for name in facts)
    for name, text in facts.items():
        terminal.console().print(f"{name:<{width}}  {text}", markup=False)
