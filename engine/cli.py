"""The command `engine`: parse, call, print. Each command is a module of `engine.commands`, imported when
it is used, so that `--help` and `check` start at once."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import Final

import click

from engine import __version__
from engine.errors import EXIT_INTERRUPTED, EngineError

# Loading makes many objects that live to the end; looking for garbage among them is a tenth of a start.
gc.set_threshold(1_000_000, 20, 20)

# Command -> (module, what it does). The text stands here so that `--help` imports no command.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "check": ("check", "Check a spec: every mistake at once, each at its place."),
    "plan": ("plan", "Show what a run would do; runs nothing."),
    "run": ("run", "Run an experiment and write its reports; resumes by default."),
    "analyze": ("analyze", "Predict a model on a device from the command line."),
    "roofline": ("roofline", "Draw the roofline of a CSV of operators."),
    "search": ("search", "Best point, Pareto front, break-even and largest batch of a run."),
    "score": ("score", "Score a training run, or judge a finished run by other weights."),
    "ingest": ("ingest", "Turn folders of benchmark logs into one workbook."),
    "bench": ("bench", "Benchmark a model here or a server, at several concurrencies."),
    "profile": ("profile", "Meter where the energy of a model goes."),
    "make-model": ("make_model", "Write a random model of any shape with a tokenizer, for servers."),
    "info": ("info", "What a model is and needs: parameters, weights, cache, memory by load."),
    "report": ("report", "Render the reports of a finished run again."),
    "compare": ("compare", "Compare runs with a baseline, point by point, with their noise."),
    "view": ("view", "List the runs of a folder in the browser, or export the list as files."),
    "export": ("export", "Write one table of a run as CSV, JSON or Parquet."),
    "query": ("query", "Answer a SELECT over the tables of runs."),
    "calibrate": ("calibrate", "Fit a device's parameters to measured operators."),
    "validate-model": ("validate_model", "Show how far off the model is on measured operators."),
    "catalog": ("catalog", "List, show and check devices, models and number formats."),
    "explain": ("explain", "Explain a metric, an exit code or a message code."),
    "init": ("init", "Start a repository of experiments."),
    "schema": ("schema", "Print or write the JSON Schemas that editors use."),
    "doctor": ("doctor", "Look at this machine: what works, what is missing, how to fix it."),
    "completion": ("completion", "Print the shell completion script."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"engine.commands.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        return command if isinstance(command, click.Command) else None

    def format_commands(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else " `engine --help` lists the commands."
            ctx.fail(f"no command `{name}`.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="engine")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="Colours of tables and progress.",
)
@click.option("--no-progress", is_flag=True, help="No progress bars.")
@click.pass_context
def app(ctx: click.Context, debug: bool, quiet: bool, color: str, no_progress: bool) -> None:
    """Compile one YAML file into a plan, run it, and see theory, measurement, energy and cost side by side.

    Exit codes: 0 done, 1 a threshold failed, 2 usage or spec error, 3 environment missing, 4 some points
    failed, 5 nothing selected, 130 interrupted.
    """
    from engine.commands.console import Terminal

    ctx.obj = Terminal(debug=debug, quiet=quiet, color=color, progress=not no_progress and not quiet)


def main(arguments: list[str] | None = None) -> None:
    """Run a command and leave with its exit code; no traceback reaches a user without `--debug`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    if debug:  # accepted anywhere on the line, as users add it after the fact
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    try:
        code = app.main(arguments, standalone_mode=False)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except click.Abort:
        code = EXIT_INTERRUPTED
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        code = EXIT_INTERRUPTED
    except click.ClickException as err:
        err.show()
        code = 2
    except SystemExit:
        code = 0  # click leaves like this, and only then, when the reader of a pipe went away
    except EngineError as err:
        if debug:
            raise
        from engine.commands.console import show_error

        show_error(err)
        code = err.exit_code
    except Exception as err:
        if debug:
            raise
        from engine.commands.console import show_defect

        code = show_defect(err)
    sys.exit(code if isinstance(code, int) else 0)
