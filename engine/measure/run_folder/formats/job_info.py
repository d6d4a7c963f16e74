"""Run metadata that looks like YAML and often is none: flat keys are salvaged, the rest is reported."""

from __future__ import annotations

import re
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_KEY: Final = re.compile(r"^\s{0,16}([A-Za-z_][A-Za-z0-9_.-]{0,40}):(?:\s+(.*?))?\s*$")
_NAMES: Final = {
    "model": "model", "model_name": "model", "model_id": "model", "hardware": "hardware", "gpu": "hardware",
    "gpu_name": "hardware", "device": "hardware", "quantization": "quantization", "dtype": "quantization",
    "precision": "quantization",
}  # fmt: skip
_COUNTS: Final = {
    "num_tokens": "output_tokens",
    "output_tokens": "output_tokens",
    "prompt_tokens": "prompt_tokens",
    "batch_size": "batch_size",
}


def sniff(source: Source) -> bool:
    """Whether a job with details, or flat keys that name a model, stand in a YAML file."""
    return source.name.lower().endswith((".yaml", ".yml")) and bool(
        re.search(r"^\s*(model|model_name|model_id):", source.head, re.M)
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Names of model, device and format."""
    texts: dict[str, str] = {}
    counts: dict[str, int] = {}
    lost = kept = 0
    for _, line in lines(source):
        if not line.strip():
            continue
        found = _KEY.match(line)
        if found is None:
            lost += 1
            continue
        kept += 1
        key, value = found.group(1).lower(), (found.group(2) or "").strip("\"' ")
        if value and key in _NAMES:
            texts.setdefault(_NAMES[key], value[:200])
        elif value.isdigit() and key in _COUNTS:
            counts.setdefault(_COUNTS[key], int(value))
    notes = (
        [Note("not-yaml", f"{counted(lost, 'line')} without key and value; the others were kept")]
        if lost
        else []
    )
    if counts:
        notes.append(Note("job", ", ".join(f"{k} {v}" for k, v in counts.items()), "note"))
    return Read(texts=texts, rows_read=kept, rows_dropped=lost, notes=tuple(notes))


FORMATS = (Format("job information", "flat keys of a run's metadata", sniff, read),)
