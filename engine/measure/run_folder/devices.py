"""Which catalogue device a log or a folder means, by the names drivers print."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from engine.measure.run_folder.names import canonical
from engine.spec.catalog import entries, load_hardware
from engine.spec.hardware import Hardware

# What drivers print around the name people use, in the order in which it is taken away.
_NOISE: Final = re.compile(
    r"\b(nvidia|amd|intel|geforce|tesla|graphics|gpu|accelerator|corporation|\(r\)|\(tm\))\b"
)


@lru_cache(maxsize=8)
def device_names(search: tuple[Path, ...] = ()) -> Mapping[str, str]:
    """Canonical name or alias -> catalogue name, of every device."""
    found: dict[str, str] = {}
    for entry in entries("hardware", search=search):
        for name in (entry.name, entry.title, *entry.aliases):
            found.setdefault(canonical(name), entry.name)
    return found


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


def load_device(name: str | None, search: Sequence[Path]) -> Hardware | None:
    """The data sheet of a catalogue name; None for no name."""
    return load_hardware(name, search=search) if name else None
