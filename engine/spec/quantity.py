"""Field types for quantities: a spec says `80 GB`, a settings object holds the float 80e9."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic_core import PydanticCustomError, core_schema

from engine.errors import UnitError
from engine.units import EXAMPLES, Dimension, exact_text, format_quantity, parse, pattern_for

if TYPE_CHECKING:
    # Loading the schema generator takes 30 ms, and only the editor schema needs it.
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

__all__ = [
    "Bytes",
    "BytesPerSecond",
    "Celsius",
    "FlopsPerSecond",
    "Hertz",
    "Joules",
    "JoulesPerByte",
    "JoulesPerFlop",
    "PerSecond",
    "Quantity",
    "Seconds",
    "UsdPerHour",
    "Watts",
]


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks a float as a quantity: read from text with a unit, written back in the base unit."""

    dimension: Dimension

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_before_validator_function(
            self._to_base_unit,
            core_schema.float_schema(allow_inf_nan=False),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self._to_text, when_used="json-unless-none"
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        example = EXAMPLES[self.dimension]
        return {
            "type": "string",
            "pattern": pattern_for(self.dimension),
            "patternErrorMessage": f"Write a number with a unit, e.g. {example}",
            "examples": [example],
        }

    def text_for_people(self, value: float) -> str:
        """A short text when it says exactly this value, the base unit otherwise."""
        short = format_quantity(value, self.dimension)
        return short if parse(short, self.dimension) == value else exact_text(value, self.dimension)

    def _to_base_unit(self, value: object, info: core_schema.ValidationInfo[Any]) -> float:
        example = EXAMPLES[self.dimension]
        if isinstance(value, str):
            try:
                return parse(value, self.dimension)
            except UnitError as err:
                raise PydanticCustomError(
                    "quantity", "{message}", {"message": err.message, "hint": err.hint, "code": err.code}
                ) from err
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Numbers already in base units come from our own code only; a bare number in a spec is a guess.
            if info.context is not None and info.context.get("trusted"):
                return float(value)
            message, code = f"`{value}` needs a unit, e.g. `{example}`", "needs-unit"
        else:
            message, code = f"expected a number with a unit, e.g. `{example}`", "bad-type"
        raise PydanticCustomError("quantity", "{message}", {"message": message, "hint": None, "code": code})

    def _to_text(self, value: float) -> str:
        return exact_text(value, self.dimension)


Bytes = Annotated[float, Quantity("bytes")]
BytesPerSecond = Annotated[float, Quantity("bytes_per_s")]
FlopsPerSecond = Annotated[float, Quantity("flops_per_s")]
Seconds = Annotated[float, Quantity("seconds")]
Watts = Annotated[float, Quantity("watts")]
Joules = Annotated[float, Quantity("joules")]
Hertz = Annotated[float, Quantity("hertz")]
Celsius = Annotated[float, Quantity("celsius")]
UsdPerHour = Annotated[float, Quantity("usd_per_hour")]
PerSecond = Annotated[float, Quantity("per_second")]
JoulesPerByte = Annotated[float, Quantity("joules_per_byte")]
JoulesPerFlop = Annotated[float, Quantity("joules_per_flop")]
