"""One file of a run: opened, told apart and read, or refused with the reason."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from engine.measure.run_folder.devices import Device
from engine.measure.run_folder.discovery import Candidate
from engine.measure.run_folder.formats import format_of
from engine.measure.run_folder.jsons import load
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.text import Source, Unreadable, look
from engine.spec.run_folder import RunFolderSettings

FileStatus = Literal["read", "partial", "unreadable"]


@dataclass(frozen=True)
class FileRow:
    """What became of one file."""

    name: str
    format: str | None
    status: FileStatus
    reason: str = ""
    rows_read: int = 0
    rows_dropped: int = 0
    size_bytes: int = 0
    encoding: str | None = None
    interval_s: float | None = None
    devices: int | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Context:
    """What all runs of a folder share."""

    root: Path
    settings: RunFolderSettings
    devices: Mapping[str, str] = field(default_factory=dict)
    """Canonical device name -> catalogue name."""
    sheets: Mapping[str, Device] = field(default_factory=dict)

    def settings_of(self, run: str) -> RunFolderSettings:
        """The settings of one run: those of the folder, and what `overrides` say about it."""
        changed: dict[str, object] = {}
        for pattern, own in self.settings.overrides.items():
            if applies(pattern, run):
                changed |= {name: getattr(own, name) for name in own.model_fields_set}
        return self.settings.model_copy(update=changed) if changed else self.settings


def applies(pattern: str, run: str) -> bool:
    """Whether a folder or a pattern of the settings means a run: the run itself, or what lies above it."""
    plain = pattern.replace("\\", "/").strip("/")
    return fnmatchcase(run, plain) or run.startswith(f"{plain}/") or fnmatchcase(run, f"{plain}/*")


def read_file(candidate: Candidate, context: Context) -> tuple[FileRow, Read | None]:
    """One file, and the reason when nothing came out of it."""
    if candidate.refused is not None:
        return FileRow(
            candidate.name, None, "unreadable", candidate.refused, size_bytes=_size(candidate)
        ), None
    source = None
    name = None
    try:
        source = look(candidate.path, candidate.name, root=context.root)
        form = format_of(source)
        if form is None:
            raise Unreadable("unknown-format", _unknown(source))
        name = form.name
        found = form.read(source, context.settings)
    except (Unreadable, OSError, RecursionError, ValueError, ArithmeticError, LookupError, csv.Error) as err:
        # A file is hostile until proven otherwise: what cannot be taken is a row, never the end of the run.
        return _refused(candidate, source, name, err), None
    return _file_row(source, name, found), found


def _size(candidate: Candidate) -> int:
    """Bytes of the file itself, or of the link where it is one; 0 where it is gone."""
    try:
        return candidate.path.lstat().st_size
    except OSError:
        return 0


def _unknown(source: Source) -> str:
    """Why no format fits: JSON that breaks off is told from text that nobody knows."""
    lines = source.first_lines(1)
    if not lines:
        return "only blank lines"
    if re.match(r"\s*[\[{]\s*[\"\[{\]}]", source.head.lstrip("\ufeff")):
        try:
            load(source)
        except Unreadable as err:
            return str(err)
    return f"no known format; it starts `{lines[0][:60].strip()}`"


def _refused(candidate: Candidate, source: Source | None, name: str | None, err: Exception) -> FileRow:
    code = err.code if isinstance(err, Unreadable) else "unreadable"
    text = str(err) if isinstance(err, Unreadable) else f"cannot be read: {err}"[:300]
    return FileRow(
        candidate.name, name, "unreadable", text,
        size_bytes=source.size_bytes if source else _size(candidate),
        encoding=source.encoding if source else None,
        notes=(Note(code, text),),
    )  # fmt: skip


def _file_row(source: Source, name: str, found: Read) -> FileRow:
    empty = not (found.results or found.traces or found.facts or found.texts or found.extras)
    serious = [note.text for note in found.notes if note.severity != "note"]
    status: FileStatus = "unreadable" if empty else "partial" if found.rows_dropped else "read"
    reason = "; ".join(serious) or ("the format is known, but it holds no value" if empty else "")
    intervals = [t.interval_s for t in found.traces if t.interval_s]
    return FileRow(
        source.name, name, status, reason, found.rows_read, found.rows_dropped, source.size_bytes,
        source.encoding,
        interval_s=min(intervals) if intervals else None, devices=_devices(found), notes=found.notes,
    )  # fmt: skip


def _devices(found: Read) -> int | None:
    """How many devices were logged: the most with one quantity; sensors of one device are no devices."""
    by_quantity: dict[tuple[str, str], set[str]] = {}
    for trace in found.traces:
        if trace.quantity in ("power", "temperature") and trace.scope != "part":
            by_quantity.setdefault((trace.quantity, trace.scope), set()).add(trace.device)
    return max((len(names) for names in by_quantity.values()), default=None)
