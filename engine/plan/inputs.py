"""Files a measurement reads, as a digest: when they change, what was read from them is out of date.

They stand outside the fingerprint, because a plan is made from the spec alone; the store keeps the digest
beside the results and the next run compares.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from engine.errors import LocatedError
from engine.plan.point import Task
from engine.plan.stored import StoredTask
from engine.spec.catalog import find, model_source
from engine.spec.settings import Settings
from engine.spec.training import TrainingSettings

_FIELDS: Final = frozenset(
    {
        "path",
        "mounts",
        "log_file",
        "config",
        "compile_dir",
        "inference_results",
        "prompt_results",
        "trace",
        "file",
    }
)
"""Settings that name files or folders, relative to the spec."""
_READ_ONLY_KINDS: Final = ("run_folder", "training")
_MOST_FILES: Final = 200_000


def inputs_digest(task: Task, spec_folder: Path) -> str | None:
    """Digest of the files that the settings of a task name; None when they name none that is there.

    What is only read - logs - is compared by size and time, because reading it again costs little; what
    steers a measurement - a trace, a data set - by content, because measuring again costs much.
    """
    if task.kind == "analytical":
        return None
    names = sorted(set(_named(task.settings.model_dump(mode="json"))))
    by_time = task.kind in _READ_ONLY_KINDS
    digest = hashlib.sha256()
    found = not names  # where every file that was named is gone, there is nothing to compare
    entries = list(_entries(task.settings, spec_folder))
    for file in entries:
        digest.update(f"{file.name}\0{_state(file, by_time=False)}\n".encode())
    for name in names:
        start = _here(spec_folder, name)
        for file in _files(start):
            found = True
            digest.update(f"{name}\0{file.relative_to(start)}\0{_state(file, by_time=by_time)}\n".encode())
    return digest.hexdigest()[:32] if found and (names or entries) else None


def inputs_changed(task: Task, stored: StoredTask, spec_folder: Path) -> bool:
    """Whether the files a stored task read are others by now; where they are gone, its results stand."""
    now = inputs_digest(task, spec_folder)
    return now is not None and now != stored.inputs


def _named(settings: Any, name: str = "") -> Iterator[str]:
    """Texts of the fields that name files."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from _named(value, name if name in _FIELDS else key)
    elif isinstance(settings, list):
        for value in settings:
            yield from _named(value, name)
    elif isinstance(settings, str) and name in _FIELDS:
        yield settings


def _entries(settings: Settings, spec_folder: Path) -> Iterator[Path]:
    """Files of the model and the device that a training run names itself; no point holds their values."""
    if not isinstance(settings, TrainingSettings):
        return
    search = (spec_folder,)
    try:
        if settings.model is not None:
            yield model_source(settings.model, search=search)
        if settings.devices_per_node is not None:
            yield find("hardware", settings.backend, search=search)
    except LocatedError:
        return  # the measurement says what is wrong with the name


def _here(spec_folder: Path, name: str) -> Path:
    """A file or folder as it is called on this machine: `runs\\` of a spec from Windows is `runs`."""
    path = spec_folder / name
    return path if path.exists() else spec_folder / name.replace("\\", "/")


def _files(path: Path) -> Iterator[Path]:
    """A file itself, or every file below a folder in a fixed order."""
    if path.is_file():
        yield path
        return
    count = 0
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            count += 1
            if count > _MOST_FILES:
                return
            yield Path(folder) / name


def _state(file: Path, *, by_time: bool) -> str:
    try:
        if by_time:
            known = file.stat()
            return f"{known.st_size} {known.st_mtime_ns}"
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as err:
        return f"unreadable {err.errno}"
