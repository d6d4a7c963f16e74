"""A calibration as the text of its file: numbers rounded to what they are worth, units written out."""

from __future__ import annotations

from io import StringIO
from typing import Any, Final

from pydantic import BaseModel

from engine.spec.calibration import Calibration
from engine.spec.settings import quantity_of_field
from engine.units import format_quantity

_HEAD: Final = "# yaml-language-server: $schema=../../schemas/calibration.v1.json\n"
_DIGITS: Final = 4


def calibration_text(calibration: Calibration) -> str:
    """YAML that reads back as the same calibration, to four significant digits."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.width = 110
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    yaml.dump(_plain(calibration), text)
    return _HEAD + text.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {
            name: _field(value, name)
            for name, info in type(value).model_fields.items()
            if getattr(value, name) is not None and getattr(value, name) != info.default
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        # Counts are exact; measured numbers are worth no more digits.
        worth = value if value.is_integer() else float(f"{value:.{_DIGITS}g}")
        return int(worth) if worth.is_integer() and abs(worth) < 1e15 else worth
    return value


def _field(owner: BaseModel, name: str) -> Any:
    value = getattr(owner, name)
    quantity = quantity_of_field(type(owner), name)
    if quantity is not None and isinstance(value, float):
        return format_quantity(value, quantity.dimension)
    return _plain(value)
