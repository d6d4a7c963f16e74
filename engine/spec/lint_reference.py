"""A device that claims a known name, held against the shipped entry, with what a difference may mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from engine.spec.catalog import canonical_name, catalog_files, parsed_file
from engine.spec.hardware import Hardware
from engine.spec.lint_rules import Finding, numbers_of
from engine.units import Dimension, format_quantity, parse

__all__ = ["differences", "known_device", "suspects"]

# Within this, public catalogues are said to agree: they copy one data sheet with different rounding.
_AGREES: Final = 0.025
_SAME: Final = 0.004
_LARGE: Final = 1.25
# A document's preset repeats a printed figure on purpose; it is no reference.
_NO_REFERENCE: Final = "document-"
_VENDOR_WORDS: Final = frozenset(
    {"nvidia", "amd", "intel", "apple", "google", "aws", "qualcomm", "samsung", "tesla", "geforce",
     "instinct", "radeon", "gpu", "device", "accelerator", "chip", "platinum"}
)  # fmt: skip


def known_device(device: Hardware, *, name: str = "") -> tuple[str, Hardware] | None:
    """Name and entry of the shipped device that a device (or its file, `name`) says it is."""
    index = _shipped_names()
    for claim in (name, *device.aliases, device.name):
        found = index.get(_slug(claim))
        if found is not None:
            return found, _shipped(found)
    return None


def differences(device: Hardware, name: str, reference: Hardware) -> Iterator[Finding]:
    """Every number that differs from the shipped entry `name`, with suspects."""
    known = numbers_of(reference)
    for field, value in numbers_of(device).items():
        if field not in known:
            if field.startswith("peak."):
                precision = field.removeprefix("peak.")
                yield Finding(
                    rule="differs",
                    field=field,
                    message=f"the catalogue's `{name}` has no {precision} rate",
                    severity="warning",
                    hint="no such units, or no dense figure was published",
                )
            continue
        low, high = _accepted(reference, field, known[field])
        if value > 0 and not low <= value <= high:
            factor = value / known[field]
            reasons = suspects(field, value, name, reference)
            large = not 1 / _LARGE < factor < _LARGE
            yield Finding(
                rule="differs",
                field=field,
                message=f"{_text(field, value)} is {factor:.3g} times the {_text(field, known[field])} "
                f"of the catalogue's `{name}`",
                severity="error" if large else "warning",
                hint=f"it may be {' or '.join(reasons)}" if reasons else None,
            )


def suspects(field: str, value: float, name: str, reference: Hardware) -> list[str]:
    """What a number that should be `field` of a shipped device may be instead, most specific first."""
    known = numbers_of(reference)
    right = known[field]
    found = [
        f"its {other.removeprefix('peak.')} rate"
        for other, rate in known.items()
        if field.startswith("peak.") and other.startswith("peak.") and _near(value, rate)
    ]
    found += [f"the figure of `{sibling}`" for sibling in _siblings_with(name, field, value)][:2]
    factor = value / right
    if field != "sm_count":
        for power in (1, 2, 3, 4):
            if _near(factor, 1.024**power):
                found.append("a figure scaled by powers of two")
    if not found and not 1 / 500 < factor < 500:
        found.append("off by a unit")
    if _near(factor, 2.0):
        found.append(
            "a figure that counts sparsity, fp16 accumulation or a pair"
            if field.startswith("peak.")
            else "a pair of devices, or both directions counted twice"
        )
    if _near(factor, 0.5):
        found.append("one die or one direction only")
    return list(dict.fromkeys(found))


def _accepted(reference: Hardware, field: str, value: float) -> tuple[float, float]:
    """Smallest and largest value that does not count as different."""
    published = [value]
    for one in reference.ranges:
        if one.field == field:
            published += [parse(text, _dimension(field)) for text in one.values]
    return min(published) * (1 - _AGREES), max(published) * (1 + _AGREES)


def _near(value: float, target: float) -> bool:
    return abs(value / target - 1) <= _SAME


def _siblings_with(name: str, field: str, value: float) -> Iterator[str]:
    """Shipped devices of the same family that do have this number."""
    family = _family(name)
    for other in sorted(set(_shipped_names().values())):
        if other != name and _family(other) == family:
            number = numbers_of(_shipped(other)).get(field)
            if number and _near(value, number):
                yield other


def _family(name: str) -> str:
    """The letters a name begins with: `h` for H100, H200 and H20, `gaudi`, `mi`, `rtx`."""
    return re.split(r"[^a-z]", name, maxsplit=1)[0]


_DIMENSIONS: Final[Mapping[str, Dimension]] = {
    "peak": "flops_per_s",
    "memory_bandwidth": "bytes_per_s",
    "l2_bandwidth": "bytes_per_s",
    "link": "bytes_per_s",
    "power": "watts",
    "boost_clock": "hertz",
}


def _dimension(field: str) -> Dimension:
    return _DIMENSIONS.get(field.split(".")[0], "bytes")


def _text(field: str, value: float) -> str:
    return f"{value:.0f}" if field == "sm_count" else format_quantity(value, _dimension(field))


@cache
def _shipped_names() -> dict[str, str]:
    """Every way to call a shipped device, without vendor words -> its name in the catalogue."""
    found: dict[str, str] = {}
    for name, path in catalog_files("hardware").items():
        if name.startswith(_NO_REFERENCE):
            continue
        entry = parsed_file("hardware", path)
        if isinstance(entry, Hardware):
            for claim in (name, *entry.aliases, entry.name):
                found.setdefault(_slug(claim), name)
    return found


def _shipped(name: str) -> Hardware:
    entry = parsed_file("hardware", catalog_files("hardware")[name])
    if not isinstance(entry, Hardware):
        raise TypeError(f"{name} is no device")
    return entry


def _slug(name: str) -> str:
    plain = re.sub(r"\(.*?\)", "", name)
    words = re.split(r"[^a-z0-9.+]+", canonical_name(plain))
    return "-".join(word for word in words if word and word not in _VENDOR_WORDS)
