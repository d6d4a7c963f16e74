"""Energy profiler results as JSON: variants of a model with energies, powers and durations of their runs."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import dig, load_mapping, looks_like_json
from engine.measure.run_folder.numbers import finite
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings


def sniff(source: Source) -> bool:
    """Whether variants with energy, power and duration stand in a JSON file."""
    return looks_like_json(source, "baseline", "energy", "power", "duration")


def read(source: Source, settings: RunFolderSettings) -> Read:
    """One result per variant: means of its runs."""
    value = load_mapping(source)
    results, notes = [], []
    for name, variant in value.items():
        columns = {key: _numbers(variant, key) for key in ("energy", "power", "duration")}
        if not columns["energy"]:
            continue
        values = {"energy_j": fmean(columns["energy"])}
        count = len(columns["energy"])
        how = {"energy_j": f"mean of {count} runs"}
        if columns["power"]:
            values["average_power_w"], how["average_power_w"] = (
                fmean(columns["power"]),
                f"mean of {count} runs",
            )
        if columns["duration"]:
            values["window_s"], how["window_s"] = fmean(columns["duration"]), f"mean of {count} runs"
            notes += _duration_notes(name, columns["duration"])
        results.append(Result(values, how, label=name))
    return Read(results=tuple(results), rows_read=len(results), notes=tuple(notes))


def _numbers(variant: Any, key: str) -> list[float]:
    found = dig(variant, key)
    return [v for v in map(finite, found) if v is not None] if isinstance(found, list) else []


def _duration_notes(name: str, durations: list[float]) -> list[Note]:
    """Energies of runs of unequal length do not compare, and short runs hide from the sensor."""
    notes = []
    if max(durations) > 1.1 * min(durations):
        text = (
            f"runs of `{name}` last {min(durations):g} to {max(durations):g} s: compare powers, not energies"
        )
        notes.append(Note("unequal-durations", text))
    if max(durations) < 0.1:
        text = f"runs of `{name}` are shorter than the 0.1 s in which board sensors update"
        notes.append(Note("below-resolution", text))
    return notes


FORMATS = (Format("energy profiler JSON", "energies of model variants", sniff, read),)
