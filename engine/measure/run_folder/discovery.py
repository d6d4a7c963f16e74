"""Which folders are runs, and which files belong to each."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.errors import UsageError
from engine.measure.run_folder.names import Place, place_of
from engine.spec.run_folder import RunFolderSettings

_LOG_NAMES: Final = re.compile(r"infer|power|therm|output|result|bench|metric|log|smi|temp", re.IGNORECASE)
# Never logs: opening a weights file of 100 GB to learn that it is binary helps nobody.
_NOT_LOGS: Final = frozenset(
    (
        ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf", ".xlsx", ".xls", ".docx", ".pptx", ".zip", ".gz",
        ".tgz", ".xz", ".zst", ".bz2", ".7z", ".tar", ".whl", ".so", ".dll", ".exe", ".bin", ".gguf",
        ".safetensors", ".pt", ".pth", ".onnx", ".engine", ".neff", ".pb", ".npy", ".npz", ".parquet",
        ".sqlite", ".db", ".pyc", ".py", ".sh", ".ps1", ".bat", ".html", ".css", ".js", ".ipynb", ".lock",
    )
)  # fmt: skip
_VERDICTS: Final = (".PASS", ".FAIL")
MOST_FILES: Final = 200_000


@dataclass(frozen=True)
class Candidate:
    """A file that may be a log."""

    path: Path
    name: str
    """Relative to the root, with forward slashes."""
    refused: str | None = None
    """Why it is not opened; None for a file to read."""


@dataclass(frozen=True)
class RunFolder:
    """One run: a folder and its files."""

    name: str
    """Relative to the root; the root's own name where it is the run."""
    place: Place
    files: tuple[Candidate, ...]
    certain: bool = True
    """False when only the content can tell whether the folder is a run."""
    failed: str | None = None
    """Name of the file that marks the run as failed."""


@dataclass(frozen=True)
class Found:
    """Everything below a root."""

    root: Path
    runs: tuple[RunFolder, ...]
    loose: tuple[Candidate, ...]
    """Files that belong to no run."""


def local_folder(text: str, *, base: Path = Path(), mounts: Mapping[str, str] | None = None) -> Path:
    """The folder that a POSIX, Windows or UNC spelling means here; raises `UsageError` when there is none."""
    tried = [base / spelling for spelling in spellings(text, mounts or {})]
    for path in tried:
        if path.is_dir():
            return path
    if file := next((path for path in tried if path.is_file()), None):
        raise UsageError(
            f"`{text}` is a file, not a folder of runs", hint=f"give the folder it lies in, `{file.parent}`"
        )
    if re.search(r"\s-(o|d|-output|-daq)\b", text):
        raise UsageError(
            f"`{text}` looks like a path and an option in one",
            hint="a backslash before a blank joins them: write the path without the trailing backslash",
        )
    hint = "check the path; it is relative to the spec, or to this folder on the command line"
    if text.startswith(("\\\\", "//")):
        hint = (
            "mount the share and say where, `--mount '\\\\server\\share=/mnt/share'` or `mounts:` in the spec"
        )
    local = str(tried[0])
    where = f" (looked for here as `{local}`)" if mounts and local.replace("\\", "/") != text else ""
    raise UsageError(f"there is no folder `{text}`{where}", hint=hint)


def spellings(text: str, mounts: Mapping[str, str]) -> list[str]:
    """Ways to write a folder on this system, likeliest first; trailing separators never matter."""
    text = text.strip().strip('"')
    bare = text.rstrip("/\\") or text[:1]
    slashes = bare.replace("\\", "/")
    found = [bare, slashes]
    for share, folder in mounts.items():
        prefix = share.rstrip("/\\").replace("\\", "/")
        if slashes.lower() == prefix.lower() or slashes.lower().startswith(f"{prefix.lower()}/"):
            found.insert(0, folder.rstrip("/") + slashes[len(prefix) :])
    if drive := re.fullmatch(r"([A-Za-z]):(/.*)?", slashes):
        found.append(f"/mnt/{drive.group(1).lower()}{drive.group(2) or ''}")  # where WSL mounts drives
    return list(dict.fromkeys(found))


def discover(root: Path, settings: RunFolderSettings, *, devices: Mapping[str, str] | None = None) -> Found:
    """The runs below a root; links to folders are refused, not followed."""
    runs: list[RunFolder] = []
    loose: list[Candidate] = []
    for folder, files in _folders(root, settings):
        marks = [f.path for f in files if settings.verdicts and _is_verdict(f.path.name)]
        failed = next((mark.name for mark in marks if mark.name.upper().endswith(".FAIL")), None)
        files = [f for f in files if f.path not in marks]
        relative = folder.relative_to(root)
        parts = tuple(_shown(part) for part in relative.parts)
        below = place_of(parts, patterns=settings.levels, models=settings.models, devices=devices)
        place = below
        if not below.known:
            # The root may be a single model's folder; `llama_runs` without a size is none.
            own = (_shown(root.resolve().name), *parts)
            whole = place_of(own, patterns=settings.levels, models=settings.models, devices=devices)
            place = whole if whole.model_size is not None or below.model is None else below
        readable = [f for f in files if f.refused is None]
        certain = below.matched or any(_LOG_NAMES.search(f.path.name) for f in readable)
        if readable:
            name = "/".join(parts) or _shown(root.resolve().name) or "."
            runs.append(RunFolder(name, place, tuple(files), certain, failed))
        else:
            loose += files
    return Found(root, tuple(runs), tuple(loose))


def _folders(root: Path, settings: RunFolderSettings) -> list[tuple[Path, list[Candidate]]]:
    """Each folder with its files, those of folders that belong to it included, in a stable order."""
    found: dict[Path, list[Candidate]] = {}
    joined = {name.lower() for name in settings.merge}
    judged: set[Path] = set()
    total = 0
    for text, folders, names in os.walk(root, followlinks=False):
        here = Path(text)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in linked)
        if settings.verdicts and here != root and any(_is_verdict(name) for name in names):
            judged.add(here)
        owner = _owner(here, root, joined, judged)
        for name in sorted((*names, *linked)):
            total += 1
            if total > MOST_FILES:
                raise UsageError(
                    f"`{root}` holds more than {MOST_FILES:,} files", hint="give a folder closer to the runs"
                )
            if name in linked:
                reason = "a link to a folder: links are not followed; give that folder as a root of its own"
                shown = _shown((here / name).relative_to(root).as_posix())
                found.setdefault(owner, []).append(Candidate(here / name, shown, reason))
            elif not name.startswith(".") or (settings.verdicts and _is_verdict(name)):
                found.setdefault(owner, []).append(_candidate(root, here / name))
    return sorted(found.items(), key=lambda item: _natural(item[0]))


def _is_verdict(name: str) -> bool:
    return name.upper().endswith(_VERDICTS)


def _owner(here: Path, root: Path, joined: set[str], judged: set[Path]) -> Path:
    """The folder whose run the files of a folder belong to: the one with a verdict, or above merged names."""
    verdict = next((folder for folder in (here, *here.parents) if folder in judged), None)
    if verdict is not None:
        return verdict
    owner = here
    while owner != root and owner.name.lower() in joined:
        owner = owner.parent
    return owner


def _shown(name: str) -> str:
    """A name as it can be written down: bytes that are no UTF-8, as old shares have them, become `\ufffd`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Order of folders as people expect it: 7b before 13b, batch_4 before batch_16."""
    pieces = re.split(r"([0-9]+)", path.as_posix().lower())
    return [(0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in pieces]


def _candidate(root: Path, path: Path) -> Candidate:
    name = _shown(path.relative_to(root).as_posix())
    if path.suffix.lower() in _NOT_LOGS:
        return Candidate(path, name, f"not a log: `{path.suffix.lower()}` files are not opened")
    return Candidate(path, name)
