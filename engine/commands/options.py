"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

SPEC = click.argument("spec", type=click.Path(path_type=Path))
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="PATH=VALUE",
    help="Change one value, e.g. workload.batch_size=8.",
)
MAX_POINTS = click.option("--max-points", type=click.IntRange(min=1), help="Allow this many design points.")
ONLY = click.option(
    "--only", multiple=True, metavar="KIND", help="Only measurements of this kind; repeatable."
)
RUNS = click.option(
    "--runs",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder of all runs.",
)


def output_format(*choices: str) -> Callable[[Command], Command]:
    """`--format` with these choices, the first one by default."""
    return click.option(
        "--format",
        "output",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="Output format.",
    )
