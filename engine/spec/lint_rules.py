"""What a device's own numbers say about each other: each rule is one function from a device to findings.

The rules come from errors found in public catalogues: sparse figures in dense fields, vector rates taken for
matrix rates, half a device, two devices, powers of two for powers of ten, precisions a chip does not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final, Literal

from engine.errors import UnitError
from engine.spec.hardware import Hardware, Link
from engine.spec.lint_architectures import Architecture
from engine.spec.summary import headline_peak
from engine.units import Dimension, format_quantity, parse

__all__ = ["DEVICE_RULES", "Finding", "both_directions", "numbers_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something in a catalogue entry that is probably wrong."""

    rule: str
    """Short stable name; a waiver names it."""
    field: str
    """Dotted path of the value, such as `peak.bf16`; empty for the whole entry."""
    message: str
    """What is wrong: lower case, no full stop, names in backticks."""
    severity: Literal["error", "warning"] = "error"
    hint: str | None = None
    """What it may be or what to do."""
    file: str | None = None
    """None when an entry was checked that came from no file."""
    line: int | None = None

    def __str__(self) -> str:
        """The finding in one line, place first, as compilers print it."""
        place = f"{self.file}:{self.line or 1}: " if self.file else ""
        subject = f" `{self.field}`:" if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.severity} [{self.rule}]{subject} {self.message}{hint}"

    def as_data(self) -> dict[str, str | int | None]:
        """The finding as a mapping for JSON."""
        return asdict(self)


Rule = Callable[[Hardware, Architecture | None], Iterator[Finding]]

# Peaks are published with three or four digits: 1299 / 667 is meant to be 2.
_RATIO_TOLERANCE: Final = 0.03
_RIDGE: Final = (2.0, 700.0)
_FASTEST_DRAM: Final = 10e12
# L4 with 60 SMs is 3.4 % off its own fp32 rate; data sheets round by less than 1 %.
_CLOCK_TOLERANCE: Final = 0.02
# Export parts run tensor units far below their clock; above 1.05 nothing dense can be.
_TENSOR_SHARE: Final = (0.15, 1.05)
# Drivers keep up to a tenth for themselves; sizes sold in GB and counted in GiB exceed them by 7.4 %.
_USABLE_SHARE: Final = (0.85, 1.08)
_NVLINK_BOTH: Final = {1: 160e9, 2: 300e9, 3: 600e9, 4: 900e9, 5: 1800e9}
_PCIE_LANE: Final = {3: 1e9, 4: 2e9, 5: 4e9, 6: 8e9}
_LARGE_SCOPE: Final = re.compile(r"\b(wafer|rack|pod|node|system|server|cluster)\b", re.IGNORECASE)
_GEFORCE: Final = re.compile(r"\bgeforce\b|\brtx[ -]?[345]0[5-9]0\b", re.IGNORECASE)
_GIGABYTES_IN_NAME: Final = re.compile(r"(?<![\d.])(\d{1,4}) ?GB\b", re.IGNORECASE)
_YEAR: Final = re.compile(r"\b20\d\d\b")


def numbers_of(device: Hardware) -> dict[str, float]:
    """Dotted path -> value in base units of every number a device states; the link in both directions."""
    found = {f"peak.{name}": value for name, value in device.peak.model_dump().items() if value is not None}
    for name in ("memory", "usable_memory", "memory_bandwidth", "l2", "l2_bandwidth",
                 "memory_side_cache", "sm_count", "boost_clock", "power"):  # fmt: skip
        value = getattr(device, name)
        if value is not None:
            found[name] = float(value)
    if device.link is not None:
        found["link.bandwidth"] = both_directions(device.link)
    return found


def both_directions(link: Link) -> float:
    """Bytes per second of a link, both directions added, whatever its basis."""
    return link.bandwidth * (2 if link.basis == "per direction per device" else 1)


def _zero(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    for field, value in numbers_of(device).items():
        if value == 0:
            yield Finding(
                rule="zero", field=field, message=f"`{field}` is 0", hint="leave out what is not known"
            )


def _ratios(device: Hardware, known: Architecture | None) -> Iterator[Finding]:
    peak = device.peak
    sixteen = peak.bf16
    pairs: list[tuple[str, float | None, float | None, tuple[float, ...]]] = [
        ("fp8-bf16", peak.fp8, sixteen, (1, 2)),
        ("fp4-fp8", peak.fp4, peak.fp8, (1, 2, 3, 4)),
        ("int8-bf16", peak.int8, sixteen, (1, 2, 4)),
    ]
    if known is not None and known.int8_over_fp16 is not None:
        pairs.append(("int8-fp16", peak.int8, peak.fp16, (known.int8_over_fp16,)))
    for name, above, below, allowed in pairs:
        if not above or not below:
            continue
        ratio = above / below
        if not any(abs(ratio / one - 1) <= _RATIO_TOLERANCE for one in allowed):
            upper, lower = name.split("-")
            expected = " or ".join(f"{one:g}" for one in allowed)
            yield Finding(
                rule=f"ratio-{name}",
                field=f"peak.{upper}",
                message=f"{upper} is {ratio:.3g} times {lower}; expected {expected}",
                hint="one of the two may be sparse, another precision or another part",
            )


def _ridge(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    headline = headline_peak(device.peak)
    if headline is None or not device.memory_bandwidth:
        return
    ridge = headline[1] / device.memory_bandwidth
    low, high = _RIDGE
    if not low <= ridge <= high:
        yield Finding(
            rule="ridge",
            field=f"peak.{headline[0]}",
            message=f"the ridge point is {ridge:.3g} FLOP per byte, outside {low:g} to {high:g}",
            hint="peak or bandwidth may be off by a unit, or belong to another scope",
        )


def _bandwidth(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    value = device.memory_bandwidth
    if value >= _FASTEST_DRAM and "SRAM" not in (device.memory_kind or ""):
        yield Finding(
            rule="bandwidth",
            field="memory_bandwidth",
            message=f"{format_quantity(value, 'bytes_per_s')} is more than any off-chip memory has",
            hint="it may be a capacity, a whole rack, or an on-chip rate; say SRAM in `memory_kind` if it is",
        )
    gibi = value / 2**30
    if gibi and abs(gibi - round(gibi)) < 1e-9 * gibi:
        yield Finding(
            rule="binary-bandwidth",
            field="memory_bandwidth",
            message=f"the bandwidth is {gibi:.0f} GiB/s, 7.4 % more than {gibi:.0f} GB/s",
            hint="vendors count bandwidth in powers of ten",
        )


def _precision(device: Hardware, known: Architecture | None) -> Iterator[Finding]:
    if known is None:
        return
    for name, value in device.peak.model_dump().items():
        if value is not None and name not in known.precisions:
            yield Finding(
                rule="precision",
                field=f"peak.{name}",
                message=f"{device.architecture or 'this architecture'} has no {name} units",
                hint="leave it out; an emulated rate is no peak",
            )


def _clock(device: Hardware, known: Architecture | None) -> Iterator[Finding]:
    fp32, clock, count = device.peak.fp32, device.boost_clock, device.sm_count
    if known is None or known.lanes is None or not fp32 or not clock or not count:
        return
    expected = 2 * known.lanes * count * clock
    if abs(fp32 / expected - 1) > _CLOCK_TOLERANCE:
        fits = fp32 / (2 * known.lanes * clock)
        yield Finding(
            rule="fp32-clock",
            field="sm_count",
            message=f"2 x {known.lanes} x {count} SMs x {format_quantity(clock, 'hertz')} is "
            f"{format_quantity(expected, 'flops_per_s')}, not {format_quantity(fp32, 'flops_per_s')}",
            hint=f"{fits:.1f} SMs would fit",
        )


def _tensor_rate(device: Hardware, known: Architecture | None) -> Iterator[Finding]:
    """NVIDIA: the 16-bit rate against what so many SMs can do at this clock."""
    fp32, count = device.peak.fp32, device.sm_count
    field = "bf16" if device.peak.bf16 else "fp16"
    value = device.peak.bf16 or device.peak.fp16
    if known is None or known.lanes is None or known.tensor_flops is None or not count or not value:
        return
    clock = device.boost_clock or (fp32 / (2 * known.lanes * count) if fp32 else None)
    if not clock:
        return
    # GeForce drivers halve the tensor rate with fp32 accumulation, which is what these fields hold.
    accumulate = 0.5 if _GEFORCE.search(device.name) else 1.0
    share = value / (known.tensor_flops * accumulate * count * clock)
    low, high = _TENSOR_SHARE
    if share > high:
        yield Finding(
            rule="tensor-rate",
            field=f"peak.{field}",
            message=f"{format_quantity(value, 'flops_per_s')} is {share:.3g} times what {count} SMs can do",
            hint="it may count sparsity, accumulate in fp16, or be the fp8 rate",
        )
    elif share < low:
        yield Finding(
            rule="tensor-rate",
            field=f"peak.{field}",
            message=f"{format_quantity(value, 'flops_per_s')} is {share:.2g} of what {count} SMs can do",
            hint="it may be the fp32 vector rate",
        )


def _matrix_rate(device: Hardware, known: Architecture | None) -> Iterator[Finding]:
    """AMD: the 16-bit matrix rate against the fp32 vector rate."""
    fp32 = device.peak.fp32
    # CDNA 1 runs bf16 at half the fp16 rate, so the larger of the two counts.
    value, field = max((device.peak.fp16 or 0.0, "fp16"), (device.peak.bf16 or 0.0, "bf16"))
    if known is None or known.matrix_over_vector is None or not fp32 or not value:
        return
    ratio, expected = value / fp32, known.matrix_over_vector
    if abs(ratio / expected - 1) > _RATIO_TOLERANCE:
        yield Finding(
            rule="matrix-rate",
            field=f"peak.{field}",
            message=f"{field} is {ratio:.3g} times fp32; {device.architecture} has {expected:g}",
            hint="it may be a vector rate or count sparsity",
        )


def _one_peak(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    sixteen = device.peak.bf16 or device.peak.fp16
    eight = device.peak.fp8 or device.peak.int8
    if device.peak.fp32 and device.peak.fp32 == sixteen == eight:
        yield Finding(
            rule="one-peak-for-all",
            field="peak",
            message="one figure stands at fp32, 16 bits and 8 bits alike",
            hint="give each precision its own dense peak and leave out the others",
        )


def _scope(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    if _LARGE_SCOPE.search(device.name):
        return
    for field, limit, text in (("power", 2e3, "2 kW"), ("memory", 1e12, "1 TB")):
        value = getattr(device, field)
        if value is not None and value > limit:
            yield Finding(
                rule="scope",
                field=field,
                message=f"more than {text} is no single device",
                hint="enter one device, or say node, rack or wafer in `name`",
            )


def _memory(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    if not device.memory:
        return
    named = _GIGABYTES_IN_NAME.search(device.name)
    if named and abs(device.memory / (float(named[1]) * 1e9) - 1) > 0.08:
        yield Finding(
            rule="name-memory",
            field="memory",
            message=f"the name says {named[1]} GB, `memory` says {format_quantity(device.memory, 'bytes')}",
        )
    low, high = _USABLE_SHARE
    if device.usable_memory is not None and not low <= device.usable_memory / device.memory <= high:
        share = device.usable_memory / device.memory
        yield Finding(
            rule="usable-memory",
            field="usable_memory",
            message=f"the driver's size is {share:.3g} of the marketed one; expected {low:g} to {high:g}",
        )


def _link(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    if device.link is None:
        return
    total, limit = both_directions(device.link), None
    if found := re.match(r"NVLink ?([1-5])\b", device.link.name):
        limit = _NVLINK_BOTH[int(found[1])]
    elif found := re.match(r"PCIe ?([3-6])(?:\.0)? x(\d+)", device.link.name):
        limit = 2 * _PCIE_LANE[int(found[1])] * int(found[2])
    if limit is not None and total > limit * 1.01:
        yield Finding(
            rule="link-rate",
            field="link.bandwidth",
            message=f"{format_quantity(total, 'bytes_per_s')} in both directions is more than "
            f"{device.link.name} has ({format_quantity(limit, 'bytes_per_s')})",
            hint="the figure may count both directions already: check `basis`",
        )


def _source(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    if not device.source:
        yield Finding(
            rule="source", field="", message="no source is given", severity="warning",
            hint="add `source` with document and date",
        )  # fmt: skip
    elif not _YEAR.search(device.source):
        yield Finding(
            rule="source", field="source", message="the source has no date", severity="warning",
            hint="vendors change their pages: say when it was read",
        )  # fmt: skip


def _ranges(device: Hardware, _: Architecture | None) -> Iterator[Finding]:
    numbers = numbers_of(device)
    for index, published in enumerate(device.ranges):
        place = f"ranges.{index}"
        stated = numbers.get(published.field)
        if stated is None:
            yield Finding(
                rule="range", field=place, message=f"`{published.field}` is no number of this device"
            )
            continue
        values = [_parsed(published.field, text) for text in published.values]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            yield Finding(rule="range", field=place, message="a value does not have the field's unit")
        elif not min(known) * 0.999 <= stated <= max(known) * 1.001:
            shown = ", ".join(published.values)
            yield Finding(
                rule="range",
                field=place,
                message=f"`{published.field}` lies outside what the sources say: {shown}",
            )


_RANGE_DIMENSIONS: Final[dict[str, Dimension]] = {
    "peak": "flops_per_s",
    "memory": "bytes",
    "usable_memory": "bytes",
    "l2": "bytes",
    "memory_side_cache": "bytes",
    "memory_bandwidth": "bytes_per_s",
    "l2_bandwidth": "bytes_per_s",
    "link": "bytes_per_s",
    "power": "watts",
    "boost_clock": "hertz",
}


def _parsed(field: str, text: str) -> float | None:
    dimension = _RANGE_DIMENSIONS.get(field.split(".")[0])
    if dimension is None:
        return None
    try:
        return parse(text, dimension)
    except UnitError:
        return None


DEVICE_RULES: Final[dict[str, Rule]] = {
    "zero": _zero,
    "ratio": _ratios,
    "ridge": _ridge,
    "bandwidth": _bandwidth,
    "precision": _precision,
    "fp32-clock": _clock,
    "tensor-rate": _tensor_rate,
    "matrix-rate": _matrix_rate,
    "one-peak-for-all": _one_peak,
    "scope": _scope,
    "memory": _memory,
    "link-rate": _link,
    "source": _source,
    "range": _ranges,
}
