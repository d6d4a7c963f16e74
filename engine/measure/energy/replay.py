"""Recordings from files: a log of this engine, what nvidia-smi wrote, or energies another tool stated."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from pathlib import Path
from typing import Any, Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.energy import foreign, log, smi_text
from engine.measure.energy.trace import Trace

_LARGEST_BYTES: Final = 512 * 2**20
"""Unpacked size beyond which a trace is not read into memory."""


def read_trace(path: Path, *, interval_s: float | None = None) -> Trace:
    """The recording in a file, recognised by its content; `interval_s` is for logs that carry no times.

    Raises `EnvironmentMissing` when there is no such file and `MeasurementError` when it is no recording.
    """
    text = _text(path)
    file = path.name
    if not text.strip():
        raise MeasurementError(f"`{file}` is empty")
    if text.lstrip()[0] == "{":
        document = _json(text, file)
        if log.is_log(document):
            return log.read_log(document, file=file)
        if foreign.is_variant_json(document):
            return foreign.read_variant_json(document, file=file)
    elif foreign.is_phase_csv(text):
        return foreign.read_phase_csv(text, file=file)
    elif smi_text.is_dmon(text):
        return smi_text.read_dmon(text, file=file, interval_s=interval_s)
    elif smi_text.is_query_csv(text):
        return smi_text.read_query_csv(text, file=file)
    raise MeasurementError(
        f"`{file}` is no recording of power",
        hint="read are logs of this engine, nvidia-smi CSV and dmon, and energies by phase",
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            data = stream.read(_LARGEST_BYTES + 1)
    except FileNotFoundError as err:
        raise EnvironmentMissing(
            f"there is no trace `{path}`", hint="`trace` is relative to the folder of the spec"
        ) from err
    except (OSError, EOFError, zlib.error) as err:
        raise MeasurementError(f"`{path.name}` cannot be read: {err}") from err
    if len(data) > _LARGEST_BYTES:
        raise MeasurementError(f"`{path.name}` is larger than {_LARGEST_BYTES >> 20} MiB")
    # Windows shells write UTF-16 when output is redirected, with a mark at the start.
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return data.decode("utf-16" if wide else "utf-8", errors="replace")


def _json(text: str, file: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)  # it starts with a brace, so it is an object
        return document
    except (json.JSONDecodeError, RecursionError) as err:
        raise MeasurementError(f"`{file}` is no JSON: {err}") from err
