"""Which catalogue device a log or a folder means, by the names drivers print."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from engine.errors import LocatedError
from engine.measure.run_folder.names import canonical
from engine.spec.catalog import catalog_files, parsed_file
from engine.spec.hardware import Hardware

# What drivers print around the name people use, in the order in which it is taken away.
_NOISE: Final = re.compile(
    r"\b(nvidia|amd|intel|geforce|tesla|graphics|gpu|accelerator|corporation|\(r\)|\(tm\))\b"
)


@dataclass(frozen=True)
class Device:
    """What is needed of a data sheet: the limits that no log holds."""

    bandwidth_bytes_per_s: float | None = None
    throttle_c: float | None = None


@dataclass(frozen=True)
class Devices:
    """The devices of the catalogue."""

    names: Mapping[str, str]
    """Canonical name or alias -> catalogue name."""
    sheets: Mapping[str, Device]
    """Catalogue name -> its limits."""


@lru_cache(maxsize=8)
def known_devices(search: tuple[Path, ...] = ()) -> Devices:
    """Every device of the catalogue; a file that is no device is left to `engine catalog lint`."""
    names: dict[str, str] = {}
    sheets: dict[str, Device] = {}
    for name, path in catalog_files("hardware", search=search).items():
        try:
            sheet = parsed_file("hardware", path)
        except (LocatedError, OSError):
            continue
        if isinstance(sheet, Hardware):
            sheets[name] = Device(sheet.memory_bandwidth, sheet.slowdown_temperature)
            for known in (name, sheet.name, *sheet.aliases):
                names.setdefault(canonical(known), name)
    return Devices(names, sheets)


def catalogue_name(printed: str, names: Mapping[str, str]) -> str | None:
    """The catalogue name of a device as a driver prints it; None when that is not certain."""
    plain = canonical(re.sub(r"[()]", " ", _NOISE.sub(" ", printed.lower())).strip())
    plain = re.sub(r"-+", "-", plain).strip("-")
    for spelling in (canonical(printed), plain, _rearranged(plain)):
        if spelling in names:
            return names[spelling]
    return None


def _rearranged(name: str) -> str:
    """`h100-80gb-hbm3` and `a100-sxm4-80gb` as `h100-sxm-80gb` and `a100-sxm-80gb`."""
    memory = re.search(r"[0-9]+gb", name)
    family = name.split("-")[0]
    board = (
        "sxm"
        if re.search(r"sxm|hbm3\b", name)
        else "pcie"
        if "pcie" in name
        else "nvl"
        if "nvl" in name
        else ""
    )
    parts = [family, board, memory.group(0) if memory else ""]
    return "-".join(part for part in parts if part)
