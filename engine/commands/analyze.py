"""`engine analyze`: one prediction from the command line; builds the spec a user could have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.commands.console import Terminal
from engine.commands.options import output_format
from engine.errors import NothingSelected

if TYPE_CHECKING:
    from engine.commands.analysis import Analysis

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic in newer versions only


class _Numbers(_ParamType):
    """One count, or several with commas between them: an axis."""

    name = "N[,N...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"`{value}` is not a whole number, nor several with commas between them", param, ctx)
        return found if len(found) > 1 else found[0]


class _Names(_ParamType):
    """One name or path, or several with commas between them: an axis."""

    name = "NAME[,NAME...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = [part.strip() for part in str(value).split(",") if part.strip()]
        if not found:
            self.fail("a name is missing", param, ctx)
        return found if len(found) > 1 else found[0]


@click.command()
@click.option("--model", type=_Names(), required=True, help="Catalogue name, config.json, or several.")
@click.option("--hardware", type=_Names(), required=True, help="Catalogue name, or several.")
@click.option("--quantization", type=_Names(), default="bf16", show_default=True, help="Format, or several.")
@click.option("--prompt-tokens", type=_Numbers(), default=2048, show_default=True)
@click.option("--output-tokens", type=_Numbers(), default=256, show_default=True)
@click.option("--batch-size", type=_Numbers(), default=1, show_default=True)
@click.option("--tensor", type=_Numbers(), default=1, help="Tensor-parallel devices.")
@click.option("--pipeline", type=_Numbers(), default=1, help="Pipeline stages.")
@click.option("--expert", type=_Numbers(), default=1, help="Expert-parallel devices.")
@click.option("--data", type=_Numbers(), default=1, help="Data-parallel replicas.")
@click.option("--calibration", default="auto", show_default=True, help="auto, none or a parameter set.")
@click.option("--operators", type=click.Path(path_type=Path), metavar="CSV", help="Write the operator table.")
@click.option("--layout", type=click.Choice(["engine", "llm-para"]), default="engine", show_default=True)
@click.option(
    "--roofline", type=click.Path(path_type=Path), metavar="PICTURE", help="Draw it: png, svg or pdf."
)
@click.option("--print-spec", is_flag=True, help="Print the spec this stands for and stop.")
@output_format("human", "json", "csv")
@click.pass_obj
def analyze(
    terminal: Terminal,
    model: Any,
    hardware: Any,
    quantization: Any,
    prompt_tokens: Any,
    output_tokens: Any,
    batch_size: Any,
    tensor: Any,
    pipeline: Any,
    expert: Any,
    data: Any,
    calibration: str,
    operators: Path | None,
    layout: str,
    roofline: Path | None,
    print_spec: bool,
    output: str,
) -> None:
    """Predict a model on a device, operator by operator. Commas make an axis of any option."""
    from engine.commands.analysis import Analysis, experiment_mapping

    split = {"tensor": tensor, "pipeline": pipeline, "expert": expert, "data": data}
    analysis = Analysis(
        experiment_mapping(
            model=model,
            hardware=hardware,
            quantization=quantization,
            counts={"prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "batch_size": batch_size},
            parallelism={key: value for key, value in split.items() if value != 1},
            settings={"calibration": calibration} if calibration != "auto" else {},
        )
    )
    if print_spec:
        from engine.results.documents import yaml_text

        click.echo(yaml_text(analysis.spec), nl=False)
        return
    _print_summary(analysis, output)
    if operators is not None:
        _write_operators(analysis, operators, layout)
        terminal.say(f"operators in {operators}")
    if roofline is not None:
        for path in _draw(analysis, roofline):
            terminal.say(f"roofline in {path}")
    if (analysis.summary["status"] == "skipped").all():
        raise click.exceptions.Exit(NothingSelected.exit_code)


def _print_summary(analysis: Analysis, output: str) -> None:
    if output == "csv":
        click.echo(analysis.points.merge(analysis.summary, on="point").to_csv(index=False), nl=False)
        return
    if output == "json":
        rows = analysis.points.merge(analysis.summary, on="point").to_dict("records")
        known = [{key: value for key, value in row.items() if value == value} for row in rows]
        click.echo(json.dumps(known, indent=2, default=str))
        return
    from engine.commands.tables import print_predictions

    print_predictions(analysis)


def _write_operators(analysis: Analysis, target: Path, layout: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if layout == "engine":
        analysis.operators.to_csv(target, index=False)
        return
    from engine.errors import UsageError
    from engine.perfmodel.llm_para import llm_para_csv, llm_para_rows

    if analysis.plan.size > 1:
        raise UsageError(
            "the llm-para layout holds one point", hint="drop the axes, or use `--layout engine`"
        )
    point = analysis.plan.point(0)
    rows = llm_para_rows(point.combination.model, point.combination.quantization, point.workload)
    target.write_text(llm_para_csv(rows), encoding="utf-8")


def _draw(analysis: Analysis, target: Path) -> list[Path]:
    """The operators of the first point under the roofs of every device of the sweep."""
    from engine.report.publication import Roof, RoofPoint, draw_roofline

    rows = [row for row in analysis.operator_rows() if row.intensity]
    points = [RoofPoint(row.operator, row.phase, row.intensity or 0.0) for row in rows]
    roofs: dict[str, tuple[float, float]] = {}
    for block in analysis.plan.blocks:
        found = analysis.operator_rows(block.first_point)
        peak = max(row.peak_flops_per_s or 0.0 for row in found)
        bandwidth = block.combination.hardware.memory_bandwidth
        roofs.setdefault(block.combination.labels["hardware"], (peak, bandwidth))
    first = analysis.plan.point(0)
    return draw_roofline(
        points, [Roof(name, *roof) for name, roof in roofs.items()], target, title=first.label
    )
