"""Finding and reading the HLO modules of a compile cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import MeasurementError
from engine.measure.training.hlo import LARGEST_FILE, Counting, KernelUsage, read_module
from engine.measure.training.wire import Damaged

SUFFIXES: Final = (".hlo_module.pb", ".hlo")
_MOST_FILES: Final = 100_000


@dataclass(frozen=True)
class ModuleFile:
    """One HLO module file."""

    path: Path
    name: str
    """Relative to the cache, with forward slashes."""
    module: str | None
    """Folder `MODULE_...` it lies in."""
    compiler: str | None
    """Version of the compiler from the folder `neuronxcc-...`."""
    size_bytes: int
    usage: KernelUsage | None
    """None when the file could not be read."""
    error: str | None
    """Why not."""


@dataclass(frozen=True)
class KernelSummary:
    """All modules of a cache together."""

    files: tuple[ModuleFile, ...]

    @property
    def read(self) -> tuple[KernelUsage, ...]:
        """Usage of the files that could be read."""
        return tuple(file.usage for file in self.files if file.usage is not None)

    @property
    def failed(self) -> tuple[ModuleFile, ...]:
        """Files that could not be read."""
        return tuple(file for file in self.files if file.usage is None)

    @property
    def kernel_macs(self) -> int:
        """Multiply-adds of kernels."""
        return sum(usage.kernel_macs for usage in self.read)

    @property
    def total_macs(self) -> int:
        """All counted multiply-adds."""
        return sum(usage.total_macs for usage in self.read)

    @property
    def ratio(self) -> float | None:
        """Share done by kernels over all files; None when nothing was counted."""
        return self.kernel_macs / self.total_macs if self.total_macs else None

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ratio of each file in which kernels do something: what average, least and most are taken of."""
        return tuple(usage.ratio for usage in self.read if usage.ratio)


def read_cache(folder: Path, counting: Counting | None = None) -> KernelSummary:
    """Every HLO module below a folder (a whole cache, or one module's folder), each file once.

    Raises `MeasurementError` when there is no folder or no module in it.
    """
    if not folder.is_dir():
        raise MeasurementError(f"there is no folder `{folder}`", hint="`compile_dir` names the compile cache")
    paths = list(_module_files(folder))
    if not paths:
        raise MeasurementError(
            f"no HLO module in `{folder}`", hint="looked for *.hlo_module.pb and *.hlo in it and below"
        )
    return KernelSummary(tuple(_read(folder, path, counting) for path in paths))


def _module_files(folder: Path) -> Iterator[Path]:
    """Files in order of their names; a file linked to twice comes once, folders behind links not at all."""
    seen: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if not name.endswith(SUFFIXES):
                continue
            path = Path(here, name)
            try:
                status = path.stat()
            except OSError:  # a link to nothing
                continue
            identity = (status.st_dev, status.st_ino)
            if stat.S_ISREG(status.st_mode) and identity not in seen:  # a pipe would never end
                seen.add(identity)
                yield path
                if len(seen) >= _MOST_FILES:
                    raise MeasurementError(f"more than {_MOST_FILES:,} HLO modules in `{folder}`")


def _read(folder: Path, path: Path, counting: Counting | None) -> ModuleFile:
    parts = path.absolute().parts
    usage: KernelUsage | None = None
    error: str | None = None
    size = 0
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise Damaged("larger than 2 GiB, which no module is")
        usage = read_module(path, counting)
    except Damaged as err:
        error = str(err)
    except OSError as err:
        error = (err.strerror or str(err)).lower()
    return ModuleFile(
        path,
        path.relative_to(folder).as_posix(),
        _last(parts, "MODULE_"),
        (_last(parts, "neuronxcc-") or "").removeprefix("neuronxcc-") or None,
        size,
        usage,
        error,
    )


def _last(parts: Sequence[str], prefix: str) -> str | None:
    return next((part for part in reversed(parts) if part.startswith(prefix)), None)
