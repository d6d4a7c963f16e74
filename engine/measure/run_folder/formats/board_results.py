"""Results of a single-board computer: one row a question, with energies above idle and a throttle mask."""

from __future__ import annotations

import csv
from statistics import fmean

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.numbers import number
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings


def sniff(source: Source) -> bool:
    """Whether the columns of such a table head the file."""
    first = (source.first_lines(1) or [""])[0]
    return {"energy_total_j", "energy_net_j", "gen_tps"} <= set(first.split(","))


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Means over the questions; the row that loads the model is told apart."""
    with source.path.open(encoding=source.encoding, errors="replace", newline="") as stream:
        rows = list(csv.DictReader(stream))
    asked = [row for row in rows if row.get("benchmark") != "__load__"]
    loads = [
        seconds
        for row in rows
        if row.get("benchmark") == "__load__" and (seconds := number(row.get("latency_s") or ""))
    ]
    count = f"mean of {len(asked)} questions"
    values: dict[str, float] = {}
    for metric, key in (
        ("e2e_s", "latency_s"), ("energy_j", "energy_total_j"), ("net_energy_j", "energy_net_j"),
        ("average_power_w", "avg_power_w"), ("prompt_tokens_per_s", "prompt_tps"),
        ("throughput_tokens_per_s", "gen_tps"), ("average_temperature_c", "temp_c"),
    ):  # fmt: skip
        found = [value for row in asked if (value := number(row.get(key) or "")) is not None]
        if found:
            values[metric] = fmean(found)
    how = dict.fromkeys(values, count) if len(asked) > 1 else {}
    if values.get("throughput_tokens_per_s"):
        values["tpot_s"], how["tpot_s"] = 1 / values["throughput_tokens_per_s"], "1 / generation speed"
    temperatures = [value for row in asked if (value := number(row.get("temp_c") or "")) is not None]
    if temperatures:
        values["peak_temperature_c"], how["peak_temperature_c"] = (
            max(temperatures),
            "largest of the questions",
        )
    flags = [_throttled(row) for row in asked]
    values["throttled_samples"] = float(sum(flags))
    values["throttle_events"] = float(
        sum(now and not before for before, now in zip([False, *flags], flags, strict=False))
    )
    how["throttle_events"] = "rising edges over the questions, bits 0 to 3 of the mask"
    models = {row.get("model_file") for row in rows} - {None, ""}
    texts = {"model": str(models.pop())} if len(models) == 1 else {}
    if formats := {row.get("quant") for row in rows} - {None, ""}:
        texts["quantization"] = str(sorted(map(str, formats))[0])
    notes = (Note("energy-per-question", f"energies are per question ({count})", "note"),)
    return Read(
        results=(Result(values, how),), facts={"load_s": loads[0]} if loads else {}, texts=texts,
        rows_read=len(rows), notes=notes,
    )  # fmt: skip


def _throttled(row: dict[str, str]) -> bool:
    """Bits 0 to 3 say what holds now; 16 to 19 what happened since the board started."""
    try:
        return bool(int(row.get("throttled_hex") or "0", 16) & 0xF)
    except ValueError:
        return (row.get("throttle_active") or "").lower() == "true"


FORMATS = (Format("board results CSV", "questions with energy on a single-board computer", sniff, read),)
