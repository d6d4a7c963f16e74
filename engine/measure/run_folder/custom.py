"""Metrics of one's own: names and units, or arithmetic over known metrics, read as a tree and never run."""

from __future__ import annotations

import ast
import difflib
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.errors import Problem, SpecError
from engine.metrics import METRICS
from engine.results.tables import make_table
from engine.spec.run_folder import CustomMetric

if TYPE_CHECKING:
    from engine.measure.run_folder.collect import Collected

ALIASES: Final = {
    "tok_per_s": "throughput_tokens_per_s",
    "throughput": "throughput_tokens_per_s",
    "latency": "tpot_s",
    "ms_per_token": "tpot_s",
    "ttft": "ttft_s",
    "generation_time": "generation_s",
    "tokens": "output_tokens",
    "tokens_generated": "output_tokens",
    "avg_w": "average_power_w",
    "average_power": "average_power_w",
    "peak_w": "peak_power_w",
    "peak_power": "peak_power_w",
    "energy_per_token": "energy_per_output_token_j",
    "efficiency": "tokens_per_s_per_w",
    "power_efficiency": "tokens_per_s_per_w",
    "memory_used": "memory_used_bytes",
    "model_size": "parameters",
    "peak_temperature": "peak_temperature_c",
    "average_temperature": "average_temperature_c",
}
"""Short names people write; a formula sees base units whatever the name."""
SETTINGS: Final = ("batch_size", "prompt_tokens", "concurrency", "tensor")

# What a unit makes of a metric's base unit; others are shown as they stand.
_SCALES: Final = {
    ("s", "ms"): 1e3, ("s", "us"): 1e6, ("s", "min"): 1 / 60, ("W", "mW"): 1e3, ("W", "kW"): 1e-3,
    ("J", "mJ"): 1e3, ("J", "kJ"): 1e-3, ("J", "Wh"): 1 / 3600, ("J", "kWh"): 1 / 3.6e6,
    ("B", "KiB"): 2.0**-10, ("B", "MiB"): 2.0**-20, ("B", "GiB"): 2.0**-30,
    ("B", "MB"): 1e-6, ("B", "GB"): 1e-9, ("", "%"): 100.0,
}  # fmt: skip
_BINARY: Final[Mapping[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: Final[Mapping[str, Callable[..., float]]] = {"min": min, "max": max, "abs": abs}
_LONGEST: Final = 500
_LARGEST_POWER: Final = 4


@dataclass(frozen=True)
class Formula:
    """A checked formula."""

    text: str
    tree: ast.expr
    names: tuple[str, ...]


def parse_formula(text: str, *, of: str) -> Formula:
    """The formula of a metric; raises `SpecError` naming what it does not know or allow."""
    try:
        tree = ast.parse(text[: _LONGEST + 1], mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
        raise _wrong(of, f"`{text[:80]}` is not arithmetic") from err
    if len(text) > _LONGEST:
        raise _wrong(of, f"formula is longer than {_LONGEST} characters")
    names: list[str] = []
    for node in ast.walk(tree):
        _check(node, of)
        if isinstance(node, ast.Name) and node.id not in _FUNCTIONS:
            names.append(node.id)
    for name in names:
        if name not in METRICS and name not in ALIASES and name not in SETTINGS:
            near = difflib.get_close_matches(name, [*METRICS, *ALIASES, *SETTINGS], n=1)
            raise _wrong(of, f"unknown symbol `{name}`", f"did you mean `{near[0]}`?" if near else None)
    return Formula(text, tree, tuple(dict.fromkeys(names)))


def _check(node: ast.AST, of: str) -> None:
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            exponent = node.right.value if isinstance(node.right, ast.Constant) else None
            if not isinstance(exponent, int | float) or abs(exponent) > _LARGEST_POWER:
                raise _wrong(of, f"exponents are numbers up to {_LARGEST_POWER}")
        elif type(node.op) not in _BINARY:
            raise _wrong(of, "only + - * / ** and brackets are allowed")
    elif isinstance(node, ast.Call):
        if (
            not isinstance(node.func, ast.Name)
            or node.func.id not in _FUNCTIONS
            or node.keywords
            or not node.args
        ):
            raise _wrong(of, f"only the functions {', '.join(_FUNCTIONS)} are allowed")
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise _wrong(of, f"`{str(node.value)[:40]}` is not a number")
    elif not isinstance(node, ast.Name | ast.Load | ast.UnaryOp | ast.USub | ast.UAdd | ast.operator):
        raise _wrong(
            of,
            f"`{type(node).__name__}` is not arithmetic",
            "only numbers, metric names, + - * / ** are allowed",
        )


def _wrong(of: str, message: str, hint: str | None = None) -> SpecError:
    return SpecError([Problem(code="bad-formula", message=f"metric `{of}`: {message}", hint=hint)])


def evaluate(formula: Formula, values: Mapping[str, float]) -> tuple[float | None, str]:
    """The value, or nothing and the reason: a symbol without a value, or a division by 0."""
    for name in formula.names:
        if ALIASES.get(name, name) not in values:
            return None, f"`{name}` is absent"
    try:
        result = _value(formula.tree, values)
    except ZeroDivisionError:
        return None, "division by 0"
    except OverflowError:
        return None, "the result is too large"
    if isinstance(result, complex) or result != result or abs(result) == float("inf"):
        return None, "the result is not a number"
    return float(result), ""


def _value(node: ast.expr, values: Mapping[str, float]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return values[ALIASES.get(name, name)]
        case ast.UnaryOp(op=sign, operand=inner):
            return -_value(inner, values) if isinstance(sign, ast.USub) else _value(inner, values)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _value(left, values) ** _value(right, values)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _FUNCTIONS[name](*(_value(argument, values) for argument in arguments))
    raise TypeError(type(node).__name__)  # `_check` let nothing else through


def known_formulas(metrics: Mapping[str, CustomMetric]) -> dict[str, Formula | None]:
    """The formula of each metric, None for those that rename a known one; raises `SpecError`."""
    found: dict[str, Formula | None] = {}
    for name, metric in metrics.items():
        if metric.formula is not None:
            found[name] = parse_formula(metric.formula, of=name)
        elif name in METRICS or name in ALIASES:
            found[name] = None
        else:
            near = difflib.get_close_matches(name, [*METRICS, *ALIASES], n=1)
            raise _wrong(
                name, "is no known metric and has no formula", f"did you mean `{near[0]}`?" if near else None
            )
    return found


def scale_of(metric: str, unit: str) -> float:
    """From the metric's base unit to the unit asked for, such as 1000 for s -> ms/tok."""
    base = METRICS[metric].unit
    return _SCALES.get((base, unit.partition("/")[0].strip()), 1.0)


def custom_table(collected: Collected, metrics: Mapping[str, CustomMetric]) -> Any:
    """One row per result and custom metric."""
    formulas = known_formulas(metrics)
    rows: list[tuple[Any, ...]] = []
    for point, variant, row in collected.rows:
        if row.phase != "request":
            continue
        counts = {k: float(v) for k, v in row.settings.items() if isinstance(v, int)}
        known = {**counts, **row.values.values}
        for name, metric in metrics.items():
            formula = formulas[name]
            if formula is not None:
                value, reason = evaluate(formula, known)
            else:
                source = ALIASES.get(name, name)
                value = known.get(source)
                reason = row.values.absent.get(source, "the logs do not say it") if value is None else ""
                value = None if value is None else value * scale_of(source, metric.unit)
            rows.append(
                (point, variant, name, metric.name, metric.unit, value, metric.formula, reason or None)
            )
        rows += [
            (point, variant, f"{e.title} ({e.unit})", e.title, e.unit, e.value, None, None)
            for e in row.extras
        ]
    names = ("point", "variant", "metric", "title", "unit", "value", "formula", "reason")
    return make_table("custom", {name: [row[i] for row in rows] for i, name in enumerate(names)})
