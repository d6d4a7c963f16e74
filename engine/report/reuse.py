"""Whether a report that lies in its folder is what rendering it again would give."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from engine.report.inputs import ReportInputs
from engine.spec.catalog import packaged_root

RECORD: Final = ".rendered.json"
"""What the files beside it were made from, and their checksums."""


def fingerprint(inputs: ReportInputs, *, share: bool, own: Path | None) -> str:
    """A hash of everything a report is made from: data, texts, templates and the code that renders.

    What the last command did is outside it: a report says what made its data, and stays as it is when a
    later run finds everything done.
    """
    seal = hashlib.sha256()
    for part in _parts(inputs, share, own):
        seal.update(len(part).to_bytes(8, "big"))
        seal.update(part)
    return seal.hexdigest()


def is_current(folder: Path, targets: Iterable[Path], made_from: str) -> bool:
    """Whether every file is there, untouched, and made from the same."""
    record = _record(folder)
    files = record.get("files", {})
    return record.get("made_from") == made_from and all(
        path.is_file() and files.get(path.name) == _checksum(path) for path in targets
    )


def remember(folder: Path, targets: Iterable[Path], made_from: str) -> None:
    """Note what these files were made from."""
    before = _record(folder)
    # A format that was not asked for this time may still be current.
    files = dict(before.get("files", {})) if before.get("made_from") == made_from else {}
    files.update({path.name: _checksum(path) for path in targets})
    text = json.dumps({"made_from": made_from, "files": files}, indent=1, sort_keys=True)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def _parts(inputs: ReportInputs, share: bool, own: Path | None) -> Iterator[bytes]:
    for text in (inputs.spec_text, inputs.resolved_text, inputs.plan.fingerprint, str(share)):
        yield text.encode("utf-8", "surrogatepass")
    yield inputs.experiment.model_dump_json(include={"report", "scoring", "description"}).encode()
    yield json.dumps(inputs.environment, sort_keys=True, default=str).encode()
    yield os.environ.get("SOURCE_DATE_EPOCH", "").encode()
    for name in sorted(inputs.tables):
        yield name.encode()
        yield _table_bytes(inputs.tables[name])
    for folder in (Path(__file__).parent, packaged_root() / "templates", own):
        for path in sorted(folder.rglob("*")) if folder is not None else ():
            if path.is_file() and path.suffix in (".py", ".html", ".css", ".js"):
                yield path.name.encode()
                yield path.read_bytes()


def _table_bytes(table: Any) -> bytes:
    """A digest of a table's content, whatever pieces it lies in."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    whole = table.combine_chunks().unify_dictionaries()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return hashlib.sha256(sink.getvalue()).digest()


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
