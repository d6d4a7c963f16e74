"""`engine compare`: runs against a baseline, with verdicts that know their noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import NothingSelected, ThresholdError, UsageError
from engine.results.tables import PHASES, SOURCES

if TYPE_CHECKING:
    from engine.results.compared import ComparedRun, CompareOptions, Comparison
    from engine.run.stored import StoredRun

_FAILURES: Final = ("regressed", "changed", "unknown", "unmatched")


@click.command()
@click.argument(
    "names", metavar="BASELINE RUN [RUN...]", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@RUNS
@click.option(
    "--metrics", metavar="LIST", help="Comma-separated: tpot_s,ttft_s_p99. Every shared metric otherwise."
)
@click.option(
    "--phase",
    "phases",
    multiple=True,
    type=click.Choice(PHASES),
    help="Only this phase; repeatable. `request` where both runs have it, else all.",
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Choice(SOURCES),
    help="Only rows of this source; repeatable.",
)
@click.option(
    "--match", metavar="LIST", help="Fields in which points must agree, comma-separated. All otherwise."
)
@click.option("--ignore", metavar="LIST", help="Fields in which points may differ: hardware,quantization.")
@click.option(
    "--same",
    multiple=True,
    metavar="NAME=NAME",
    help="Two names of one model, device or format; repeatable.",
)
@click.option(
    "--threshold",
    default="0%",
    show_default=True,
    metavar="PERCENT",
    help="Smallest change that counts, e.g. 2%.",
)
@click.option(
    "--correction",
    type=click.Choice(["bh", "holm", "none"]),
    default="bh",
    show_default=True,
    help="For the number of tests: share of false alarms, any false alarm, or none.",
)
@click.option(
    "--noise",
    metavar="PERCENT",
    help="Standard deviation between runs of the same, added to what repeats show.",
)
@click.option("--partial", is_flag=True, help="Compare runs that are not finished too.")
@click.option(
    "--top", type=click.IntRange(min=0), default=20, show_default=True, help="Rows to print; 0 for all."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write compare.html, .pdf and .xlsx into this folder.",
)
@click.option(
    "--formats", metavar="LIST", default="html,pdf,xlsx", show_default=True, help="Formats of the report."
)
@click.option("--share", is_flag=True, help="Leave out host names, users and device serial numbers.")
@click.option(
    "--markdown",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a summary for a pull request; - for stdout.",
)
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write a JUnit file for CI.")
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(_FAILURES),
    help="Exit with 1 on such a verdict; repeatable.",
)
@click.pass_obj
def compare(terminal: Terminal, /, names: tuple[Path, ...], **given: Any) -> None:
    """Compare runs with a baseline, the first one: what was asked otherwise, where it ran otherwise, and what
    became of every metric at every point that they share.

    A run is a folder, or a name under --runs. Verdicts are improved, regressed, within noise, changed
    (neither way is better) and unknown (measured once). Exit code 1 with --fail-on, 5 when no point is
    shared.
    """
    from engine.commands.compare_output import print_comparison, print_json
    from engine.commands.report import chosen_formats
    from engine.results.comparison import compare as compare_runs

    formats = chosen_formats(given["formats"])
    options = _options(given)
    runs = _open_all(names, given["runs"], options, partial=given["partial"])
    found = compare_runs(runs, options)
    _require_shared(found, runs)
    if given["as_json"]:
        print_json(found, share=given["share"])
    elif str(given["markdown"]) != "-":
        print_comparison(found, top=given["top"])
    _write_texts(found, given)
    if given["target"] is not None:
        from engine.report.comparison import write_comparison

        for path in write_comparison(found, given["target"], formats=formats, share=given["share"]).values():
            terminal.say(str(path))
    _fail(found, given["fail_on"])


def _options(given: dict[str, Any]) -> CompareOptions:
    from engine.results.compared import CompareOptions
    from engine.results.comparison import check_options
    from engine.results.matching import FIELDS

    if given["match"] and given["ignore"]:
        raise UsageError("`--match` and `--ignore` say the same in two ways", hint="leave one of them out")
    ignored = _listed(given["ignore"])
    _known_fields(ignored)
    options = CompareOptions(
        metrics=tuple(_listed(given["metrics"])),
        phases=tuple(given["phases"]),
        sources=tuple(given["sources"]),
        match=tuple(_listed(given["match"])) or tuple(f for f in FIELDS if f not in ignored),
        same=tuple(_names(text) for text in given["same"]),
        threshold=_share(given["threshold"], "--threshold"),
        correction=given["correction"],
        noise=None if given["noise"] is None else _share(given["noise"], "--noise"),
    )
    check_options(options)
    return options


def _known_fields(names: Sequence[str]) -> None:
    from engine.results.compared import CompareOptions
    from engine.results.comparison import check_options

    check_options(CompareOptions(match=tuple(names)))


def _names(text: str) -> tuple[str, str]:
    one, sign, other = (part.strip() for part in text.partition("="))
    if not (one and sign and other):
        raise UsageError(f"`{text}` is not NAME=NAME", hint="--same llama_7b=llama-2-7b")
    return one, other


def _listed(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _share(text: str, option: str) -> float:
    """`2%` or `2 %` as 0.02; a bare number is refused, as 2 and 0.02 are both meant by somebody."""
    number, sign, rest = text.partition("%")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not sign or rest.strip() or not 0 <= value < 100:
        raise UsageError(f"`{text}` is no percentage for `{option}`", hint=f"write it as {option} 2%")
    return value / 100


def _open_all(
    names: Sequence[Path], runs: Path, options: CompareOptions, *, partial: bool
) -> list[ComparedRun]:
    """The runs, each read and closed; raises `UsageError` for the same run twice and for unfinished ones."""
    from engine.results.compared_run import compared_run
    from engine.run.stored import open_run

    if len(names) < 2:
        raise UsageError(
            f"`{names[0]}` alone cannot be compared", hint="engine compare BASELINE RUN [RUN...]"
        )
    found: list[ComparedRun] = []
    seen: dict[Path, Path] = {}
    for name in names:
        stored = open_run(name, runs=runs)
        with stored.store:
            _refuse_twice(name, stored, seen)
            run = compared_run(
                stored.folder.resolve().name,
                stored.plan,
                stored.store,
                stored.sessions,
                phases=options.phases,
            )
        if run.unfinished and not partial:
            raise UsageError(
                f"run `{name}` is not finished: {run.unfinished} of {len(stored.plan.tasks)} tasks are left",
                hint="`engine run` with its spec continues it; `--partial` compares what is there",
            )
        found.append(run)
    return found


def _refuse_twice(name: Path, stored: StoredRun, seen: dict[Path, Path]) -> None:
    folder = stored.folder.resolve()
    if folder in seen:
        raise UsageError(
            f"`{name}` is the run `{seen[folder]}` again",
            hint="a run does not differ from itself: name another one",
        )
    seen[folder] = name


def _require_shared(found: Comparison, runs: Sequence[ComparedRun]) -> None:
    """Raise `NothingSelected` when a run shares no point with the baseline, saying what keeps them apart."""
    from engine.results.comparison import loosening

    for against, run in zip(found.against, runs[1:], strict=True):
        if against.points:
            continue
        fields = loosening(runs[0], run, found.options)
        why = against.unmatched[0].reason if against.unmatched else "one of them has no rows"
        hint = (
            f"`--ignore {','.join(fields)}` compares them all the same"
            if fields
            else ("`engine export RUN points` shows what each run has")
        )
        same = next((one.same for one in against.unmatched if one.same), "")
        hint += f"; if names differ and nothing else, `{same}` says so" if same else ""
        raise NothingSelected(f"`{run.name}` shares no point with `{runs[0].name}`: {why}", hint=hint)


def _write_texts(found: Comparison, given: dict[str, Any]) -> None:
    from engine.report.comparison_text import junit_text, markdown_text
    from engine.results.atomic import write_whole

    for path, make in ((given["markdown"], markdown_text), (given["junit"], junit_text)):
        if path is None:
            continue
        text = make(found, share=given["share"])
        if str(path) == "-":
            click.echo(text, nl=False)
        else:
            write_whole(path, text)


def _fail(found: Comparison, kinds: Sequence[str]) -> None:
    """Raise `ThresholdError` where a verdict that the user does not accept occurs."""
    for kind in kinds:
        if kind == "unmatched":
            count = sum(len(against.unmatched) for against in found.against)
        else:
            counted = ("regressed", "improved", "changed") if kind == "changed" else (kind,)
            count = sum(
                number
                for against in found.against
                for verdict, number in against.verdicts.items()
                if verdict in counted
            )
        if count:
            what = "points without a partner" if kind == "unmatched" else f"comparisons {kind}"
            raise ThresholdError(f"{count:,} {what}", hint=f"asked for by `--fail-on {kind}`")
