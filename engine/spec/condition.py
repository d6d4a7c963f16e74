"""Metrics as users name them, and conditions on them such as `<= 500 ms`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from engine.errors import UnitError, UsageError
from engine.metrics import METRICS, Metric
from engine.units import EXAMPLES, Dimension, parse, pattern_for

__all__ = ["Condition", "MetricName", "Operator", "Requirements", "parse_condition"]

Operator = Literal["<=", ">=", "<", ">"]

_COMPARE: Final[dict[Operator, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION: Final = re.compile(r"(<=|>=|<|>)[ ]?(.*)", re.DOTALL)
_NUMBER: Final = r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3})?"
# Rates of tokens and of requests share a dimension; only a metric's own unit, written out, keeps them apart.
_DIMENSIONS: Final[dict[str, Dimension]] = {
    "s": "seconds", "B": "bytes", "J": "joules", "W": "watts", "C": "celsius",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """A limit on a metric, in the metric's base unit."""

    operator: Operator
    value: float

    def holds(self, measured: float) -> bool:
        """Whether a measured value meets the limit; NaN never does."""
        return _COMPARE[self.operator](measured, self.value)


def parse_condition(metric: str, text: str) -> Condition:
    """The condition `text` puts on a metric, such as `<= 500 ms`; a bare number is in its base unit.

    Raises `UsageError` for an unknown metric, `UnitError` for a text that is no condition on it.
    """
    known = METRICS.get(metric)
    if known is None:
        raise UsageError(f"there is no metric `{metric}`", hint=_metric_hint(metric))
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        hint = f"write a comparison, e.g. `{example_condition(known)}`"
        raise UnitError(f"`{shown}` is not a condition", hint=hint, code="bad-condition")
    return Condition(cast("Operator", match[1]), _limit(known, match[2]))


def _limit(metric: Metric, text: str) -> float:
    dimension = _DIMENSIONS.get(metric.unit)
    number = text.removesuffix(metric.unit).removesuffix(" ") if metric.unit else text
    is_number = re.fullmatch(_NUMBER, number) is not None
    if dimension is not None:
        # A bare number goes through the unit too, so that limits on size and sign hold for both spellings.
        return parse(f"{number} {metric.unit}" if is_number else text, dimension)
    if is_number and math.isfinite(float(number)):
        return float(number)
    unit = f"a number, optionally with the unit `{metric.unit}`" if metric.unit else "a number without a unit"
    hint = f"write {unit}, e.g. `{example_condition(metric)}`"
    raise UnitError(f"`{text[:60]}` is no value of `{metric.name}`", hint=hint, code="bad-condition")


def example_condition(metric: Metric) -> str:
    """A condition one might write for this metric."""
    sign = ">=" if metric.direction == "higher" else "<="
    dimension = _DIMENSIONS.get(metric.unit)
    value = EXAMPLES[dimension] if dimension else f"100 {metric.unit}" if metric.unit else "0.5"
    return f"{sign} {value}"


def condition_pattern(metric: Metric) -> str:
    """Regular expression of the conditions `parse_condition` accepts, anchored, for the editor schema."""
    dimension = _DIMENSIONS.get(metric.unit)
    if dimension is not None:
        with_unit = pattern_for(dimension).removeprefix("^").removesuffix("$")
        signed = _NUMBER if dimension == "celsius" else _NUMBER.replace("[+-]?", "[+]?", 1)
        return f"^ *(?:<=|>=|<|>) ?(?:{with_unit}|{signed}) *$"
    unit = f"(?: ?{re.escape(metric.unit)})?" if metric.unit else ""
    return f"^ *(?:<=|>=|<|>) ?{_NUMBER}{unit} *$"


def _metric_hint(name: str) -> str:
    from engine.spec.suggest import did_you_mean

    return did_you_mean(name, METRICS) or "`engine explain` lists them"


class _MetricMark:
    """Marks a text as the name of a metric."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(_known_metric, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        texts = [f"{metric.label}. {metric.definition}" for metric in METRICS.values()]
        return {"type": "string", "enum": list(METRICS), "markdownEnumDescriptions": texts}


def _known_metric(name: str) -> str:
    if name in METRICS:
        return name
    raise _unknown_metric(name)


def _unknown_metric(name: str) -> PydanticCustomError:
    data = {"message": f"there is no metric `{name}`", "hint": _metric_hint(name)}
    return PydanticCustomError("unknown_metric", "{message}", data)


class _RequirementsMark:
    """Marks a mapping of metrics to conditions; each mistake is reported at its own key or value."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_checked_requirements, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: _condition_schema(metric) for name, metric in METRICS.items()},
        }


def _condition_schema(metric: Metric) -> JsonSchemaValue:
    example = example_condition(metric)
    return {
        "title": metric.name,
        "description": f"{metric.label}. {metric.definition}",
        "type": "string",
        "pattern": condition_pattern(metric),
        "patternErrorMessage": f'Write a comparison, e.g. "{example}"',
        "examples": [example],
    }


def _checked_requirements(value: Any) -> Any:
    if not isinstance(value, dict):
        return value  # the mapping's own validator says what is wrong
    mistakes: list[InitErrorDetails] = []
    for name, text in value.items():
        error = _requirement_error(name, text)
        if error is not None:
            # pydantic's own mark for a mistake in the key rather than in the value
            loc = (name, "[key]") if error.type == "unknown_metric" else (name,)
            mistakes.append(InitErrorDetails(type=error, loc=loc, input=text))
    if mistakes:
        raise ValidationError.from_exception_data("require", mistakes)
    return value


def _requirement_error(name: str, value: object) -> PydanticCustomError | None:
    if name not in METRICS:
        return _unknown_metric(name)
    try:
        parse_condition(name, value if isinstance(value, str) else str(value))
    except UnitError as err:
        data = {"message": err.message, "hint": err.hint, "code": err.code}
        return PydanticCustomError("quantity", "{message}", data)
    return None


MetricName = Annotated[str, _MetricMark()]
Requirements = Annotated[dict[str, str], _RequirementsMark()]
