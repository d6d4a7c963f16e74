"""What a plain YAML 1.2 scalar means; texts that readers of YAML disagree about are refused."""

from __future__ import annotations

import math
import re
from typing import Final

from engine.errors import EngineError

__all__ = ["AmbiguousScalar", "plain_value"]

# The largest integer that NumPy, Parquet and JSON readers share.
_LARGEST: Final = 2**63 - 1
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_UNDERSCORES: Final = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}.*)?")


class AmbiguousScalar(EngineError):
    """A scalar that must be written differently; `code` is the rule it breaks."""

    def __init__(self, code: str, message: str, *, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.code = code


def plain_value(text: str) -> bool | int | float | str | None:
    """The value of an unquoted scalar; raises `AmbiguousScalar` where readers would disagree."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    first = text[0]
    if not (first.isdigit() or first in "+-."):
        return text
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _OTHER_BASE.fullmatch(text):
        return _bounded(int(text, 0), text)
    if _FLOAT.fullmatch(text):
        return _float(text)
    _refuse_lookalikes(text)
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0":
        raise AmbiguousScalar(
            "ambiguous-number",
            f"`{_short(text)}` is octal to some readers of YAML and decimal to others",
            hint=f"write `{_short(digits.lstrip('0') or '0')}`, or quote it if it is text",
        )
    # Length first: turning thousands of digits into a number is slow and refused by Python.
    return _bounded(int(text), text) if len(digits) <= 19 else _too_large(text)


def _bounded(value: int, text: str) -> int:
    return value if abs(value) <= _LARGEST else _too_large(text)


def _too_large(text: str, limit: str = f"{_LARGEST}") -> int:
    raise AmbiguousScalar(
        "number-too-large",
        f"`{_short(text)}` is too large for a number",
        hint=f"numbers of this kind end at {limit}; quote it if it is text",
    )


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        _too_large(text, "1.8e308")
    if value == 0 and re.search(r"[1-9]", re.split(r"[eE]", text)[0]):
        raise AmbiguousScalar(
            "number-too-small",
            f"`{_short(text)}` is too small for a number and would read as 0",
            hint="write 0 if that is meant",
        )
    return value


def _refuse_lookalikes(text: str) -> None:
    if _NOT_FINITE.fullmatch(text):
        raise AmbiguousScalar(
            "not-finite", f"`{text}` is not a finite number", hint="leave the key out when there is no value"
        )
    if _UNDERSCORES.fullmatch(text):
        raise AmbiguousScalar(
            "ambiguous-number",
            f"`{_short(text)}` is a number to some readers of YAML and text to others",
            hint=f"write `{_short(text.replace('_', ''))}`, or quote it if it is text",
        )
    if _DATE.fullmatch(text):
        raise AmbiguousScalar(
            "unquoted-date",
            f"`{_short(text)}` is a date to some readers of YAML and text to others",
            hint=f'quote it: `"{_short(text)}"`',
        )


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
