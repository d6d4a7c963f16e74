"""`engine run`: do what the plan says, keep what is there, show the result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.commands.console import Terminal, show_skipped
from engine.commands.loading import Loaded, load_checked, plan_of, say_swept
from engine.commands.options import MAX_POINTS, ONLY, RUNS, SET, SPEC

if TYPE_CHECKING:
    from engine.plan.compile import Plan
    from engine.run.execute import RunSummary
    from engine.run.executor import Executor

FAILED = 4
INTERRUPTED = 130


@click.command()
@SPEC
@SET
@ONLY
@MAX_POINTS
@RUNS
@click.option("--retry", type=click.Choice(["failed"]), help="Run failed tasks again.")
@click.option("--fresh", is_flag=True, help="Measure everything again, whatever earlier runs left.")
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--address", help="Address of a Ray cluster.")
@click.option("--no-report", is_flag=True, help="Store results only.")
@click.option("--no-exit-codes", is_flag=True, help="Leave with 0 where some points failed.")
@click.pass_obj
def run(
    terminal: Terminal,
    spec: Path,
    overrides: tuple[str, ...],
    only: tuple[str, ...],
    max_points: int | None,
    runs: Path,
    retry: str | None,
    fresh: bool,
    executor: str,
    address: str | None,
    no_report: bool,
    no_exit_codes: bool,
) -> None:
    """Run the experiment SPEC. A second run continues where the first one stopped."""
    loaded = load_checked(spec, overrides, max_points=max_points)
    say_swept(terminal, loaded, overrides)
    if loaded.skipped:
        show_skipped(terminal, loaded.skipped)
    plan = plan_of(loaded, max_points=max_points)
    folder = runs / plan.experiment.name
    summary = execute(
        terminal,
        loaded,
        plan,
        folder,
        only=only,
        retry_failed=retry == "failed",
        fresh=fresh,
        executor=_executor(executor, address),
    )
    if summary.exit_code != INTERRUPTED and not no_report:
        show_reports(terminal, folder, summary, spec_folder=loaded.path.parent)
    code = 0 if no_exit_codes and summary.exit_code == FAILED else summary.exit_code
    raise click.exceptions.Exit(code)


def execute(
    terminal: Terminal,
    loaded: Loaded,
    plan: Plan,
    folder: Path,
    *,
    only: tuple[str, ...] = (),
    retry_failed: bool = False,
    fresh: bool = False,
    executor: Executor | None = None,
) -> RunSummary:
    """Run a plan into a folder, showing progress, and say what was done."""
    from engine.commands.progress import RunView
    from engine.results.store import ResultStore
    from engine.run.execute import run as carry_out

    with ResultStore.open(folder, write=True, fresh=fresh) as store, RunView(terminal) as view:
        summary = carry_out(
            plan,
            store,
            executor=executor,
            only=only,
            retry_failed=retry_failed,
            fresh=fresh,
            spec=loaded.path,
            text=loaded.document.text,
            on_event=view.listen,
        )
    terminal.say(_sentence(plan, summary))
    for failure in summary.failures:
        when = " (in an earlier run; `--retry failed` tries again)" if failure.earlier else ""
        terminal.say(f"  failed: {failure.label}: {failure.error}{when}")
    return summary


def show_reports(
    terminal: Terminal, folder: Path, summary: RunSummary | None = None, *, spec_folder: Path | None = None
) -> None:
    """Render the reports of a run folder and print where they are."""
    from engine.commands.rendering import write_reports
    from engine.run.stored import open_run

    stored = open_run(folder)
    with stored.store:
        for path in write_reports(
            stored, done=summary, spec_folder=spec_folder, reuse=summary is not None
        ).values():
            click.echo(str(path))


def _executor(name: str, address: str | None) -> Executor | None:
    if name == "local":
        return None
    from engine.run.ray_cluster import RayExecutor

    return RayExecutor(address=address)


def _sentence(plan: Plan, summary: RunSummary) -> str:
    from engine.units import counted

    if summary.exit_code == INTERRUPTED:
        return "interrupted; what was finished is saved, the same command continues"
    if not summary.done and not summary.failed:
        return f"{counted(plan.size, 'point')}, all kept from earlier runs"
    # Logs and training runs are read whole: they belong to no point of the plan.
    did = counted(summary.points_done, "point") if summary.points_done else counted(summary.done, "task")
    parts = [f"{did} in {summary.seconds:.1f} s"]
    if summary.kept:
        parts.append(f"{counted(summary.kept, 'task')} kept")
    if summary.failed:
        parts.append(f"{counted(summary.failed, 'task')} failed")
    return ", ".join(parts)
