"""Energy per phase: one row a phase with its run time and the energy of processor and GPUs."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_INFERENCE: Final = re.compile(r"^start-inference-(?P<tokens>[0-9]+)-(?P<iteration>[0-9]+)$")
_GPU_MJ: Final = re.compile(r"^(?:GPU-\d+ Energy \(mJ\)|nvidia_gpu_\d+)$")


def sniff(source: Source) -> bool:
    """Whether the columns of phases with energies head the file."""
    first = (source.first_lines(1) or [""])[0]
    return ("Phase" in first and "Runtime (s)" in first and "GPU Energy (J)" in first) or first.startswith(
        "timestamp;tag;duration;"
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """One result per length of the output; warm-up iterations are left out."""
    delimiter = ";" if source.head.lstrip("\ufeff").startswith("timestamp;") else ","
    with source.path.open(encoding=source.encoding, errors="replace", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter=delimiter))
    groups: dict[str, list[Mapping[str, str]]] = {}
    warm = 0
    for row in rows:
        phase = (row.get("Phase") or row.get("tag") or "").strip()
        found = _INFERENCE.match(phase)
        if found and found.group("iteration") == "0":
            warm += 1
        elif found:
            groups.setdefault(f"{found.group('tokens')} tokens", []).append(row)
        elif phase == "inference":
            groups.setdefault("", []).append(row)
    results = [_result(name if len(groups) > 1 else "", group) for name, group in groups.items()]
    notes = [Note("warm-up", f"{counted(warm, 'warm-up iteration')} left out", "note")] if warm else []
    models = {row.get("Model") for row in rows} - {None, ""}
    texts = {"model": str(models.pop())} if len(models) == 1 else {}
    return Read(
        results=tuple(results), facts=_load(rows), texts=texts, rows_read=len(rows), notes=tuple(notes)
    )


def _gpu_joules(row: Mapping[str, str]) -> float | None:
    total = number(row.get("GPU Energy (J)") or "")
    if total is not None:
        return total  # already the sum over devices
    parts = [number(value) for key, value in row.items() if key and _GPU_MJ.match(key)]
    known = [part for part in parts if part is not None]
    return sum(known) / 1e3 if known else None


def _seconds(row: Mapping[str, str]) -> float | None:
    return number(row.get("Runtime (s)") or row.get("duration") or "")


def _result(label: str, rows: list[Mapping[str, str]]) -> Result:
    count = f"mean of {len(rows)} iterations"
    energies = [joules for row in rows if (joules := _gpu_joules(row)) is not None]
    times = [seconds for row in rows if (seconds := _seconds(row)) is not None]
    values: dict[str, float] = {}
    how: dict[str, str] = {}
    if energies:
        values["energy_j"], how["energy_j"] = fmean(energies), f"GPU energy, {count}"
    if times:
        values["e2e_s"], how["e2e_s"] = fmean(times), f"run time of the phase, {count}"
    if energies and times and fmean(times) > 0:
        values["average_power_w"] = fmean(energies) / fmean(times)
        how["average_power_w"] = f"GPU energy / run time, {count}"
    settings: dict[str, int | str] = {}
    prompt, total, limit = (
        number(rows[0].get(k) or "")
        for k in ("Number of Input Tokens", "Total Number of Tokens", "Output Token Limit")
    )
    if prompt:
        settings["prompt_tokens"] = int(prompt)
    output = total - prompt if total and prompt and total > prompt else limit
    if output:
        settings["output_tokens"] = int(output)
        values["output_tokens"] = output
        how["output_tokens"] = "total tokens - input tokens" if total else "limit of output tokens"
        if times and fmean(times) > 0:
            values["output_tokens_per_s"] = values["throughput_tokens_per_s"] = output / fmean(times)
            how["throughput_tokens_per_s"] = "output tokens / run time, prefill included"
    if used := number(rows[0].get("GPU Used Memory (MB)") or ""):
        values["memory_used_bytes"], how["memory_used_bytes"] = used * 1e6, "GPU used memory as printed"
    return Result(values, how, settings, label)


def _load(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    times = [
        _seconds(r)
        for r in rows
        if (r.get("Phase") or r.get("tag") or "").strip() in ("model load", "pipeline load")
    ]
    known = [seconds for seconds in times if seconds is not None]
    return {"load_s": fmean(known)} if known else {}


FORMATS = (Format("energy per phase CSV", "energies of the phases of a run", sniff, read),)
