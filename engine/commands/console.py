"""What commands print: data on stdout, progress and errors on stderr."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from engine.errors import EngineError, LocatedError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from engine.spec.render import Format


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


def show_problems(problems: Sequence[Problem], *, file: str, output: Format = "human") -> None:
    """Print located problems: for people on stderr, for machines on stdout."""
    from engine.spec.render import render

    click.echo(render(problems, output, subject=file), err=output == "human")


def show_skipped(terminal: Terminal, skipped: Sequence[Problem]) -> None:
    """Warn about combinations that will be skipped."""
    from engine.spec.render import render

    warnings = [replace(p, message=f"warning: {p.message}") for p in skipped]
    terminal.say(render(warnings, consequence="these combinations will be skipped"))


def show_error(err: EngineError) -> None:
    """An error with its problems, located ones with their line, on stderr."""
    from engine.spec.render import escape_controls, render

    if isinstance(err, LocatedError) and any(problem.line is not None for problem in err.problems):
        files = {problem.file for problem in err.problems if problem.file}
        click.echo(render(err.problems, subject=min(files) if len(files) == 1 else None), err=True)
        return
    click.echo(f"error: {escape_controls(err.message)}", err=True)
    if err.hint:
        click.echo(f"  {escape_controls(err.hint)}", err=True)


def show_defect(err: Exception) -> int:
    """An error nobody foresaw, said plainly; the exit code. A full disk is no defect of the engine."""
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        where = f"`{err.filename}`" if err.filename else "the output"
        click.echo(f"error: {where} cannot be written: {os.strerror(err.errno)}", err=True)
        return 3
    click.echo(f"error: {type(err).__name__}: {err}", err=True)
    click.echo("  this is a defect of the engine; `--debug` shows where it happened", err=True)
    return 4
