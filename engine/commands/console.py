"""What commands print: data on stdout, progress and errors on stderr."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError, LocatedError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console


@dataclass(frozen=True)
class Terminal:
    """How the user wants to be spoken to."""

    debug: bool = False
    quiet: bool = False
    color: str = "auto"
    progress: bool = True

    def console(self, *, stderr: bool = False) -> Console:
        """A console that honours --color, NO_COLOR, FORCE_COLOR and TERM=dumb."""
        from rich.console import Console

        forced = self.color == "always" or (self.color == "auto" and bool(os.environ.get("FORCE_COLOR")))
        plain = self.color == "never" or (self.color == "auto" and bool(os.environ.get("NO_COLOR")))
        return Console(
            stderr=stderr,
            no_color=plain or None,
            force_terminal=True if forced else None,
            highlight=False,
            soft_wrap=True,
        )

    def say(self, text: str) -> None:
        """A line for people, on stderr unless --quiet."""
        if not self.quiet:
            click.echo(text, err=True)


def show_problems(
    problems: Sequence[Problem], *, file: str, output: str = "human", consequence: str = ""
) -> None:
    """Print located problems: for people on stderr, for machines on stdout."""
    from engine.spec.render import render_problems

    text = render_problems(problems, format=output, subject=file, consequence=consequence)
    click.echo(text, err=output == "human")


def show_error(err: EngineError) -> None:
    """An error that belongs to no text the user wrote."""
    from engine.spec.render import render_problems

    if isinstance(err, LocatedError):
        click.echo(render_problems(err.problems, format="human", subject="", consequence=""), err=True)
        return
    click.echo(f"error: {err.message}", err=True)
    if err.hint:
        click.echo(f"  {err.hint}", err=True)


def show_defect(err: Exception) -> None:
    """An error nobody foresaw: said plainly, with the way to the traceback."""
    click.echo(f"error: {type(err).__name__}: {err}", err=True)
    click.echo("  this is a defect of the engine; `--debug` shows where it happened", err=True)
