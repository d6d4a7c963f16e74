"""One run: its files read, aligned and turned into rows. Works in any process and knows no other run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from engine.measure.run_folder.alignment import Alignment, Window, align, shifted
from engine.measure.run_folder.derive import (
    MEAN_GENERATION,
    Values,
    power_of,
    put_bandwidth,
    put_logged_bandwidth,
    put_memory,
    put_power,
    put_ratios,
    put_requests,
    put_thermal,
)
from engine.measure.run_folder.devices import Device, catalogue_name
from engine.measure.run_folder.discovery import RunFolder
from engine.measure.run_folder.files import Context, FileRow, read_file
from engine.measure.run_folder.names import model_size
from engine.measure.run_folder.record import Extra, Note, Read, Result
from engine.measure.run_folder.sizes import catalogue_size
from engine.measure.run_folder.trace import Trace

_EXPECTED: Final = ("throughput_tokens_per_s", "tpot_s", "ttft_s", "generation_s", "output_tokens")


_MUCH_IN_GAPS: Final = 0.05


@dataclass(frozen=True)
class Row:
    """One row of the summary."""

    label: str
    """What tells several results of one run apart: the test, such as `tg128`."""
    phase: str
    settings: Mapping[str, int | str]
    values: Values
    reason: str = ""
    ok: bool = True
    file: str = ""
    """Name of the file, where several files of the run hold results: those of one test are repeats."""
    extras: tuple[Extra, ...] = ()
    """Numbers that the spec asks for by the title of their table."""


@dataclass(frozen=True)
class Samples:
    """Readings of one quantity of one device, thinned for charts."""

    device: str
    column: str
    """Column of the table `samples`."""
    time_s: list[float]
    value: list[float]
    in_window: list[bool]


@dataclass(frozen=True)
class RunResult:
    """Everything one run folder yields."""

    run: RunFolder
    texts: Mapping[str, str]
    """model, hardware, quantization, as logs or folders name them."""
    hardware: str | None
    """Catalogue name of the device; None when it is not known."""
    rows: tuple[Row, ...]
    files: tuple[FileRow, ...]
    notes: tuple[tuple[str, Note], ...] = ()
    """(file or run, note)."""
    samples: tuple[Samples, ...] = ()


def read_run(run: RunFolder, context: Context) -> RunResult:
    """A run folder as rows; a run of which nothing can be read is one failed row with the reasons."""
    context = replace(context, settings=context.settings_of(run.name))
    files: list[FileRow] = []
    reads: list[tuple[str, Read]] = []
    for candidate in run.files:
        row, found = read_file(candidate, context)
        files.append(row)
        if found is not None:
            reads.append((candidate.name, found))
    texts = _texts(run, reads, context)
    hardware = _hardware(texts, context)
    notes = [(row.name, note) for row in files for note in row.notes]
    notes += [(run.name, note) for note in _run_notes(run, reads)]
    maker = _Maker(run, reads, context, context.sheets.get(hardware or "", Device()))
    rows = [_judged(row) for row in maker.rows(files)]
    if run.failed is not None:
        rows = [replace(row, ok=False, reason=f"marked as failed by `{run.failed}`") for row in rows]
    notes += [(run.name, note) for note in maker.notes]
    return RunResult(run, texts, hardware, tuple(rows), tuple(files), tuple(notes), tuple(maker.samples()))


def _judged(row: Row) -> Row:
    """A serving run in which every request failed measured no load, whatever zeros it printed."""
    done, failed = (row.values.values.get(f"{name}_requests") for name in ("completed", "failed"))
    if not row.ok or done != 0:
        return row
    reason = f"none of {failed:,.0f} requests was completed" if failed else "no request was completed"
    return replace(row, ok=False, reason=reason)


def _applying(reads: Sequence[tuple[str, Read]], file: str = "") -> list[tuple[str, Read]]:
    """What may be said about the results of a file: the file itself, and the files without results. Where one
    file alone holds results, everything is about it."""
    holders = {name for name, read in reads if read.results}
    alone = len(holders) <= 1
    return [(name, read) for name, read in reads if alone or name == file or name not in holders]


def _texts(run: RunFolder, reads: Sequence[tuple[str, Read]], context: Context) -> dict[str, str]:
    """Names of model, device and format: folders first, since they are what people compare by."""
    found: dict[str, str] = {}
    for _, read in _applying(reads):
        for key, text in read.texts.items():
            found.setdefault(key, text)
    if run.place.model and (run.place.known or "model" not in found):
        found["model"] = run.place.model
    found |= run.place.texts
    if context.settings.hardware and "hardware" not in run.place.texts:
        found["hardware"] = context.settings.hardware
    return found


def _hardware(texts: Mapping[str, str], context: Context) -> str | None:
    return catalogue_name(texts["hardware"], context.devices) if "hardware" in texts else None


def _run_notes(run: RunFolder, reads: Sequence[tuple[str, Read]]) -> list[Note]:
    notes = []
    named = any("parameters" in r.facts or "model" in r.texts or _names_model(r) for _, r in reads)
    if run.place.model and not run.place.known and not named:
        text = f"model name `{run.place.model}` not recognised; its size stays empty"
        notes.append(Note("unknown-model", f"{text} (name it under `models:` in the spec)"))
    if run.failed is not None:
        notes.append(Note("marked-failed", f"the run is marked as failed by `{run.failed}`"))
    if not any(read.results or {"energy_j", "average_power_w"} & set(read.facts) for _, read in reads):
        notes.append(Note("no-results", "no timings of an inference were found"))
    if not any(t.quantity == "power" for _, read in reads for t in read.traces) and not any(
        {"energy_j", "average_power_w"} & {*read.facts, *(m for r in read.results for m in r.values)}
        for _, read in reads
    ):
        notes.append(Note("no-power", "no power log was found"))
    if not any(t.quantity == "temperature" for _, read in reads for t in read.traces) and not any(
        "peak_temperature_c" in read.facts for _, read in reads
    ):
        notes.append(Note("no-thermal", "no temperature log was found", "note"))
    return notes


def _names_model(read: Read) -> bool:
    return any("model" in result.settings for result in read.results)


class _Maker:
    """Puts the rows of one run together."""

    def __init__(
        self, run: RunFolder, reads: Sequence[tuple[str, Read]], context: Context, sheet: Device
    ) -> None:
        self.run, self.reads, self.sheet = run, reads, sheet
        self.context, self.settings = context, context.settings
        self.notes: list[Note] = []
        self.traces, self._files = self._own_traces()
        self.power = power_of(self.traces)
        self.windows: list[Window] = []

    def _own_traces(self) -> tuple[list[Trace], dict[str, str]]:
        """One trace per quantity, scope and device: of two logs of the same, the finer one."""
        best: dict[tuple[str, str, str], tuple[Trace, str]] = {}
        for name, read in self.reads:
            for trace in shifted(read.traces, self.settings.clock_offset):
                key = (trace.quantity, trace.scope, trace.device)
                if key in best and best[key][1] != name:
                    self.notes.append(
                        Note("logged-twice", f"{trace.quantity} of one device is in two files", "note")
                    )
                if key not in best or trace.samples > best[key][0].samples:
                    best[key] = (trace, name)
        files: dict[str, str] = {}
        for trace, name in best.values():
            files.setdefault(trace.quantity, name)
        return [trace for trace, _ in best.values()], files

    def rows(self, files: Sequence[FileRow]) -> list[Row]:
        """Rows of every result, and one of power alone where no single result owns the power log."""
        results = [(name, result) for name, read in self.reads for result in read.results]
        if not results and not self.traces and not any(read.facts for _, read in self.reads):
            return [self._failed(files)]
        single = len(results) == 1
        several = len({name for name, _ in results}) > 1
        rows = [
            replace(
                self._result_row(name, result, own_power=single or result.window is not None),
                file=name.rsplit("/", 1)[-1] if several else "",
            )
            for name, result in results
        ]
        if not results or (not single and self.traces and all(r.window is None for _, r in results)):
            rows.append(self._power_row([r for _, r in results]))
        return [row for result in rows for row in (result, *_phases(result))]

    def _failed(self, files: Sequence[FileRow]) -> Row:
        reasons = [f"{row.name.rsplit('/', 1)[-1]}: {row.reason}" for row in files if row.reason]
        text = "; ".join(reasons) or "no file of a known format"
        values = Values(absent=dict.fromkeys(_EXPECTED, text))
        self._facts(values)
        return Row("", "request", self._counts({}), values, f"nothing readable: {text}"[:1000], ok=False)

    def _counts(self, own: Mapping[str, int | str]) -> dict[str, int | str]:
        """Settings of a row: the folder's, and where it says nothing the log's."""
        return {**own, **self.run.place.counts}

    def _result_row(self, file: str, result: Result, *, own_power: bool) -> Row:
        values = Values()
        for metric, value in result.values.items():
            values.put(metric, value, result.how.get(metric, ""), file)
        self._facts(values, file, str(result.settings.get("model", "")))
        reasons = []
        if own_power:
            reasons += self._sensors(values, result)
        else:
            values.lack(
                "average_power_w", "several results share one power log; see the row of the whole run"
            )
        self._finish(values, file)
        settings = {**self._own_texts(file), **result.settings}
        return Row(
            result.label, result.phase, self._counts(settings), values, "; ".join(reasons),
            extras=self._extras(file),
        )  # fmt: skip

    def _extras(self, file: str = "") -> tuple[Extra, ...]:
        return tuple(extra for _, read in _applying(self.reads, file) for extra in read.extras)

    def _own_texts(self, file: str) -> dict[str, int | str]:
        """Names that only this file of several gives: model, device, format."""
        if len({name for name, read in self.reads if read.results}) < 2:
            return {}
        texts = dict(next(read for name, read in self.reads if name == file).texts)
        if "hardware" in texts:
            texts["hardware"] = catalogue_name(texts["hardware"], self.context.devices) or texts["hardware"]
        return {**texts}

    def _power_row(self, results: Sequence[Result]) -> Row:
        values = Values()
        if not results:
            for metric in _EXPECTED:
                values.lack(metric, "no timings of an inference were found")
        tokens = sum(r.values.get("output_tokens", 0.0) for r in results)
        if tokens:
            values.put("output_tokens", tokens, f"sum of {len(results)} results")
        self._facts(values)
        reasons = self._sensors(values, None)
        self._finish(values)
        return Row(
            "whole run" if results else "", "request", self._counts({}), values, "; ".join(reasons),
            extras=self._extras(),
        )  # fmt: skip

    def _facts(self, values: Values, file: str = "", model: str = "") -> None:
        """What holds for the whole run; a parameter count in a log wins over the folder's name."""
        place = self.run.place
        for name, read in _applying(self.reads, file):
            for metric, value in read.facts.items():
                if metric != "memory_used_bytes":  # a sampler's peak is better than a sum of buffers
                    values.put(metric, value, read.how.get(metric, ""), name)
        if place.model_size is not None:
            values.put("parameters", place.model_size, f"name of the folder `{place.model}`")
        names = [model, *(read.texts.get("model", "") for _, read in _applying(self.reads, file))]
        stated = next((name for name in names if model_size(name)), None)
        if stated is not None:
            values.put("parameters", model_size(stated), f"name `{stated}` in the log")
        if "parameters" not in values.values:
            self._size_of_catalogue(values)
        values.lack("parameters", f"neither a log nor the name `{place.model or '?'}` says it")

    def _size_of_catalogue(self, values: Values) -> None:
        """The size of a model that only the catalogue knows; that nobody knows it is said once."""
        place = self.run.place
        known = catalogue_size(place.catalog or place.model or "")
        if known is not None:
            values.put("parameters", known[1], f"model `{known[0]}` of the catalogue")
            return
        text = f"the size of model `{place.model}` is not known; it stays empty"
        note = Note("unknown-size", f"{text} (give `parameters` under `models:` in the spec)")
        if place.known and note not in self.notes:
            self.notes.append(note)

    def _sensors(self, values: Values, result: Result | None) -> list[str]:
        """Power, thermal and memory of a row, cut to its window; returns what the reader must know."""
        found = self._align(result)
        self.notes += [note for note in found.notes if note not in self.notes]
        why = "; ".join(note.text for note in found.notes) or "no power log was found"
        window = found.window
        if window is not None:
            self.windows.append(window)
        if self.power is not None:
            put_power(values, self.power, window, why_not=why, file=self._files.get("power", ""))
            self._say_gaps(self.power, values.values.get("gap_energy_share"))
        else:
            for metric in ("average_power_w", "peak_power_w", "energy_j"):
                values.lack(metric, "no power log was found")
        thermal = self._files.get("temperature", self._files.get("throttle", ""))
        limit = self.settings.throttle_temperature or self.sheet.throttle_c
        scope = self.power.scope if self.power is not None else None
        put_thermal(values, self.traces, window, limit_c=limit, file=thermal, scope=scope)
        put_logged_bandwidth(values, self.traces, window, file=self._files.get("bandwidth", ""))
        put_memory(
            values, self.traces, window, file=self._files.get("memory", self._files.get("cache_hit_rate", ""))
        )
        if window is None or window.kind in ("step", "whole"):
            return [window.text if window else why] if self.power is not None else []
        return []

    def _say_gaps(self, power: Trace, share: float | None) -> None:
        """Say when much of an energy was not sampled: a clock set forward looks like a long gap."""
        if share is None or share < _MUCH_IN_GAPS:
            return
        longest = max(end - start for start, end in power.gaps)
        text = f"{share:.0%} of the energy lies in gaps of the power log, the longest {longest:.4g} s"
        over = longest % 1800.0
        if longest > 1700.0 and min(over, 1800.0 - over) <= 5 * (power.interval_s or 0.0):
            text += ": perhaps a clock that was set forward"
        note = Note("sampling-gaps", text)
        if note not in self.notes:
            self.notes.append(note)

    def _align(self, result: Result | None) -> Alignment:
        trace = self.power or next((t for t in self.traces if t.quantity == "temperature"), None)
        if trace is None:
            return Alignment(None)
        expected = result.seconds if result is not None else None
        stated = result.window if result is not None else None
        zone = result.zone if result is not None else "local"
        return align(trace, self.settings, run=self.run.name, stated=stated, zone=zone, expected_s=expected)

    def _finish(self, values: Values, file: str = "") -> None:
        for name, read in _applying(self.reads, file):
            if "memory_used_bytes" in read.facts:
                values.put(
                    "memory_used_bytes",
                    read.facts["memory_used_bytes"],
                    read.how.get("memory_used_bytes", ""),
                    name,
                )
        values.lack("memory_used_bytes", "no log says it")
        put_requests(values)
        put_ratios(values)
        put_bandwidth(
            values,
            bytes_per_token=self.settings.bytes_per_token,
            peak_bytes_per_s=self.settings.peak_bandwidth or self.sheet.bandwidth_bytes_per_s,
        )
        for metric in _EXPECTED:
            values.lack(metric, "the log does not say it")

    def samples(self) -> list[Samples]:
        """Readings thinned for charts, from the first reading on."""
        import numpy as np

        most = self.settings.samples
        columns = {"power": "power_w", "temperature": "temperature_c", "memory": "memory_used_bytes"}
        shown = [trace for trace in self.traces if trace.quantity in columns] if most else []
        origin = min((trace.start for trace in shown), default=0.0)
        found = []
        for trace in shown:
            step = max(1, -(-len(trace.time_s) // most))
            times, values = trace.time_s[::step], trace.value[::step]
            inside = np.zeros(len(times), dtype=bool)
            for window in self.windows:
                inside |= (times >= window.start) & (times <= window.end)
            device = trace.device or trace.scope
            lists = ((times - origin).tolist(), values.tolist(), inside.tolist())
            found.append(Samples(device, columns[trace.quantity], *lists))
        return found


_PHASE_METRICS: Final = {
    "prefill": {"time_s": "ttft_s", "prompt_tokens_per_s": "prompt_tokens_per_s", "ttft_s": "ttft_s"},
    "decode": {
        "output_tokens_per_s": "throughput_tokens_per_s",
        "tpot_s": "tpot_s",
        "generation_s": "generation_s",
    },
}


def _phases(row: Row) -> list[Row]:
    """Prefill and decode of a single request as rows of their own: they meet the prediction of that phase."""
    of_many = row.values.how.get("generation_s") == MEAN_GENERATION
    if row.phase != "request" or "generation_s" not in row.values.values or of_many:
        return []
    found = []
    for phase, metrics in _PHASE_METRICS.items():
        values = Values()
        for metric, source in metrics.items():
            value = row.values.values.get(source)
            values.put(metric, value, row.values.how.get(source, ""), row.values.files.get(source, ""))
        if values.values:
            found.append(replace(row, phase=phase, values=values, reason=""))
    return found
