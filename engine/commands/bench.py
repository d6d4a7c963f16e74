"""`engine bench`: one live benchmark from the command line, or the figures of one that was recorded."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from engine.commands.bench_spec import BenchRequest, bench_yaml, known_device
from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.commands.loading import Loaded
    from engine.plan.compile import Plan
    from engine.run.stored import StoredRun

DTYPES: Final = ("bf16", "fp16", "fp32")
_LISTS: Final = frozenset({"--concurrency", "-c", "--prompt-toks", "-p", "--seqlens"})


class _Lists(click.Command):
    """Options that take several values without commas, as the concurrency profiler has them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        found: list[str] = []
        option: str | None = None
        for argument in args:
            if argument.startswith("-"):
                option = argument if argument in _LISTS else None
                found.append(argument)
            elif option is not None and found[-1] != option and argument.isdigit():
                found += [option, argument]
            else:
                found.append(argument)
        return super().parse_args(ctx, found)


@click.command(cls=_Lists)
@click.option(
    "--model",
    "-m",
    default="facebook/opt-1.3b",
    show_default=True,
    help="Catalogue or hub name, or config.json.",
)
@click.option(
    "--concurrency",
    "-c",
    multiple=True,
    type=click.IntRange(1, 65536),
    help="Requests at once: 1 2 4 8.  [default: 1 2 4 8]",
)
@click.option(
    "--prompt-toks", "-p", multiple=True, type=click.IntRange(1), help="Prompt tokens.  [default: 512]"
)
@click.option(
    "--seqlens",
    multiple=True,
    type=click.IntRange(1),
    help="Prompt lengths to compare (latency and memory over length).",
)
@click.option("--short", type=click.IntRange(1), help="Shorter prompts of one mixed batch; needs --long.")
@click.option("--long", "long_", type=click.IntRange(1), help="Longer prompts of one mixed batch.")
@click.option(
    "--gen-toks", "-g", type=click.IntRange(1), default=64, show_default=True, help="Generated tokens."
)
@click.option("--dtype", "-d", type=click.Choice(DTYPES), default="bf16", show_default=True)
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True
)
@click.option(
    "--devices",
    type=click.IntRange(1, 4096),
    default=1,
    help="Spread the layers over so many devices of this machine.",
)
@click.option(
    "--weights",
    default="random",
    show_default=True,
    help="`random` (no download), `real` (the hub name), or a folder.",
)
@click.option(
    "--attention", type=click.Choice(["auto", "eager", "sdpa", "flash_attention_2"]), default="auto"
)
@click.option("--batching", type=click.Choice(["static", "continuous"]), default="static", show_default=True)
@click.option("--generate", is_flag=True, help="Measure the library's `generate()` too.")
@click.option("--base-url", help="Measure a server instead, e.g. http://127.0.0.1:8000/v1.")
@click.option("--served-model", help="Name the server serves, where it differs from --model.")
@click.option("--endpoint", type=click.Choice(["chat", "completions"]), default="chat", show_default=True)
@click.option("--api-key-env", metavar="NAME", help="Environment variable that holds the server's key.")
@click.option("--hardware", help="Catalogue name of the device, to predict beside; found out when absent.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=3, show_default=True)
@click.option(
    "--check-oom/--no-check-oom",
    default=None,
    help="Only check memory and leave with 0 low, 1 medium, 3 high risk; or skip the check before a run.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Prefix of traces (CSV, JSON) and figures (PNG, SVG).",
)
@click.option(
    "--output-dir", type=click.Path(path_type=Path), help="Folder for them, under a name with the time."
)
@click.option(
    "--from-trace",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Summarise and draw a recorded trace; runs nothing.",
)
@click.option("--print-spec", is_flag=True, help="Print the spec this stands for and leave.")
@click.option("--verbose", "-v", is_flag=True, help="Also print each level as the concurrency profiler does.")
@click.option("--name", help="Name of the run folder.")
@RUNS
@click.pass_obj
def bench(
    terminal: Terminal,
    /,
    output: Path | None,
    output_dir: Path | None,
    from_trace: Path | None,
    print_spec: bool,
    verbose: bool,
    check_oom: bool | None,
    runs: Path,
    **options: Any,
) -> None:
    """Benchmark a model here, or a server with --base-url, at several concurrencies."""
    prefix = _prefix(output, output_dir)
    if from_trace is not None:
        _recorded(from_trace, prefix, verbose=verbose)
        return
    request = _request(options, check=check_oom is not False)
    if check_oom:
        _check(request)
        return
    text = bench_yaml(request, detected=None if request.base_url else known_device(request.device))
    if print_spec:
        click.echo(text, nl=False)
        return
    _measure(terminal, request, text, runs, prefix, verbose=verbose)


def _prefix(output: Path | None, folder: Path | None) -> Path | None:
    if output is None and folder is None:
        return None
    if output is None:
        output = Path(f"bench_{int(time.time())}")
    return folder / output if folder is not None else output


def _request(options: dict[str, Any], *, check: bool) -> BenchRequest:
    short, long = options["short"], options["long_"]
    if (short is None) != (long is None):
        raise UsageError("`--short` and `--long` belong together")
    lengths = options["seqlens"] or ((short, long) if short else options["prompt_toks"]) or (512,)
    several, mixed = bool(options["seqlens"]), short is not None and not options["seqlens"]
    weights = options["model"] if options["weights"] == "real" else options["weights"]
    if options["weights"] not in ("real", "random"):
        weights = str(Path(weights).resolve())
    return BenchRequest(
        model=options["model"],
        concurrency=tuple(options["concurrency"]) or ((1,) if several else (2,) if mixed else (1, 2, 4, 8)),
        mixed=mixed,
        prompt_tokens=tuple(lengths),
        output_tokens=options["gen_toks"],
        dtype=options["dtype"],
        device=options["device"],
        devices=options["devices"],
        weights=weights,
        base_url=options["base_url"],
        served_model=options["served_model"],
        api_key_env=options["api_key_env"],
        endpoint=options["endpoint"],
        repeats=options["repeats"],
        check_oom=check,
        hardware=options["hardware"],
        name=options["name"],
        batching=options["batching"],
        generate=options["generate"],
        attention=options["attention"],
    )


def _check(request: BenchRequest) -> None:
    """Say whether it will fit, by the formula and by the document's rule, and leave with the risk."""
    from engine.commands.oom import check_and_print

    raise click.exceptions.Exit(
        check_and_print(
            request.model,
            dtype=request.dtype,
            device=request.device,
            prompt_tokens=max(request.prompt_tokens),
            output_tokens=request.output_tokens,
            concurrency=request.concurrency,
            devices=request.devices,
        )
    )


def _loaded(text: str) -> Loaded:
    """The spec as if it lay in the working directory, so that relative paths mean what they say there."""
    import tempfile

    from engine.commands.loading import Loaded, load_checked

    with tempfile.TemporaryDirectory(prefix="engine-bench-") as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(text, encoding="utf-8")
        found = load_checked(path)
    return Loaded(Path.cwd() / "bench.yaml", found.document, found.experiment)


def _measure(
    terminal: Terminal, request: BenchRequest, text: str, runs: Path, prefix: Path | None, *, verbose: bool
) -> None:
    from engine.commands.loading import plan_of
    from engine.commands.run import execute
    from engine.run.stored import open_run

    loaded = _loaded(text)
    plan: Plan = plan_of(loaded)
    folder = runs / plan.experiment.name
    # Whoever runs a benchmark wants a measurement, not the memory of one.
    summary = execute(terminal, loaded, plan, folder, fresh=True)
    if summary.exit_code != 130:
        stored = open_run(folder)
        with stored.store:
            _show(stored, request, prefix, verbose=verbose)
        click.echo(f"results: {folder}")
    raise click.exceptions.Exit(summary.exit_code)


def _show(stored: StoredRun, request: BenchRequest, prefix: Path | None, *, verbose: bool) -> None:
    """Print each load, and write traces and figures where a prefix was given."""
    from engine.commands.bench_output import load_lines, rows_of, write_outputs

    rows = rows_of(stored)
    for line in load_lines(rows, verbose=verbose, served=request.base_url is not None):
        click.echo(line)
    findings = stored.store.read(stored.plan, "findings").to_pylist()
    for finding in findings:
        click.echo(f"{finding['severity']} [{finding['rule']}]: {finding['finding']}")
    if prefix is not None:
        backend = "openai" if request.base_url else "transformers"
        for path in write_outputs(stored, rows, prefix, model=request.model, backend=backend):
            click.echo(str(path))


def _recorded(path: Path, prefix: Path | None, *, verbose: bool) -> None:
    from engine.commands.bench_output import figures_of_traces
    from engine.measure.live.traces import document_metrics, level_results, read_traces, spoken

    traces = read_traces(path)
    for result in level_results(traces):
        click.echo(spoken(result))
        if verbose:
            click.echo(spoken(result, document=True))
    for rule in ("document", "interpolated"):
        metrics = document_metrics(traces, rule=rule)
        click.echo(f"metrics ({rule} percentiles):")
        for name, value in metrics.items():
            # A profiler without an accelerator wrote 0 for the memory it could not see.
            unknown = value is None or (value == 0 and name.split("_")[1] in ("alloc", "reserved"))
            if rule == "document" or re.fullmatch(r"p\d+_latency_s", name):
                click.echo(f"  {name}: {'not measured' if unknown else f'{value:.6g}'}")
    if prefix is not None:
        from engine.report.live_figures import write_figures

        for written in write_figures(prefix, figures_of_traces(traces)):
            click.echo(str(written))
