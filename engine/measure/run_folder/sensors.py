"""Tables of sensor readings -> traces: the part that all power, thermal and resource logs share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from engine.measure.run_folder.clock import times_of, unrolled
from engine.measure.run_folder.delimited import Counts, Layout, batches
from engine.measure.run_folder.numbers import PLAUSIBLE, split_number, to_base
from engine.measure.run_folder.record import Note, Read
from engine.measure.run_folder.recorder import implausible, without_values
from engine.measure.run_folder.text import Source
from engine.measure.run_folder.trace import FlagBuilder, Quantity, Scope, Trace, TraceBuilder, Zone
from engine.units import counted

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_SET: Final = ("active", "yes", "y", "true", "1", "on", "set", "throttled")
_CLEAR: Final = ("not active", "no", "n", "false", "off", "inactive", "clear", "not throttled")
# Bits of NVML's clocks-event reasons that mean heat or power protection, not a mere cap: 0x8 hardware
# slowdown, 0x20 software thermal, 0x40 hardware thermal, 0x80 power brake (nvml.h, checked 2025).
_THROTTLE_BITS: Final = 0x8 | 0x20 | 0x40 | 0x80


@dataclass(frozen=True)
class Role:
    """What one column holds."""

    column: int
    quantity: Quantity
    device: str = ""
    """Which device; with a device column, what stands before its name."""
    scope: Scope = "device"
    unit: str = ""
    """Unit from the header; units in cells win."""


@dataclass(frozen=True)
class SensorTable:
    """How the columns of a log turn into traces."""

    layout: Layout
    roles: tuple[Role, ...]
    time: tuple[int, ...] = ()
    """Columns of date and time; empty when the log carries none."""
    device: int | None = None
    interval_s: float | None = None
    """Interval of a log without times."""
    held: bool = False
    """True when readings are means over the interval before."""


def read_sensor_table(source: Source, table: SensorTable, *, notes: Iterable[Note] = ()) -> Read:
    """The traces of a delimited log, with what was dropped."""
    counts = Counts()
    collector = _Collector(table)
    columns = [
        *table.time,
        *([] if table.device is None else [table.device]),
        *(r.column for r in table.roles),
    ]
    for part in batches(source, table.layout, columns, counts):
        collector.add(part)
    traces, found = collector.finish()
    dropped = counts.malformed + collector.lost
    return Read(
        traces=tuple(traces),
        rows_read=counts.rows - collector.lost - collector.headers,
        rows_dropped=dropped,
        notes=(*notes, *_row_notes(source, counts, collector), *found),
    )


def _row_notes(source: Source, counts: Counts, collector: _Collector) -> list[Note]:
    notes = []
    cut = not source.sample.endswith(("\n", "\r"))
    if counts.malformed:
        where = counts.lines_of_malformed[0] if counts.lines_of_malformed else None
        text = f"{counted(counts.malformed, 'row')} with another number of fields than the header"
        if counts.malformed == 1 and cut:
            text = "the last row is cut"
        notes.append(Note("row-cut", text, line=where))
    elif cut:
        notes.append(
            Note(
                "no-last-line-break", "the file does not end in a line break; its last row may be cut", "note"
            )
        )
    if collector.headers:
        notes.append(
            Note("repeated-header", f"the header stands again {counted(collector.headers, 'time')}", "note")
        )
    if collector.lost:
        text = f"{counted(collector.lost, 'row')} without a time or a reading"
        notes.append(Note("rows-without-values", text))
    else:
        notes += without_values(collector.missing)
    if collector.implausible:
        notes.append(implausible(collector.implausible))
    if collector.mixed:
        units = ", ".join(sorted(collector.mixed))
        notes.append(
            Note("mixed-units", f"one column holds several units ({units}); each cell was converted", "note")
        )
    return notes


class _Collector:
    """Feeds batches of text columns to one builder per role and device."""

    def __init__(self, table: SensorTable) -> None:
        self.table = table
        self.lost = 0
        self.headers = 0
        """Rows that repeat the header, as logs that were appended to do."""
        self.implausible = 0
        self.mixed: set[str] = set()
        self.missing: dict[str, int] = {}
        self._builders: dict[tuple[Role, str], TraceBuilder | FlagBuilder] = {}
        self._rows: dict[str, int] = {}
        self._zone: Zone = "none"
        self._last_of_day: float | None = None
        self._days = 0.0

    def add(self, part: list[pa.Array]) -> None:
        """One batch: time columns, the device column, then one column per role."""
        import numpy as np

        part = self._without_headers(part)
        times, rest = part[: len(self.table.time)], part[len(self.table.time) :]
        names, values = (None, rest) if self.table.device is None else (rest[0], rest[1:])
        size = len(part[0])
        seconds = self._seconds(times) if times else None
        groups = _groups(names, size)
        kept = np.zeros(size, dtype=bool)
        converted = [
            self._converted(role, column) for role, column in zip(self.table.roles, values, strict=True)
        ]
        for name, rows in groups:
            own = self._own_seconds(seconds, name, rows)
            for role, column in zip(self.table.roles, converted, strict=True):
                here = column[rows]
                good = np.isfinite(here) & np.isfinite(own)
                if not good.all():
                    gone = int(len(good) - good.sum())
                    self.missing[role.quantity] = self.missing.get(role.quantity, 0) + gone
                kept[rows[good]] = True
                self._builder(role, name, timed=seconds is not None).add(*_pair(role, own[good], here[good]))  # type: ignore[arg-type]
        self.lost += int(size - kept.sum())

    def _without_headers(self, part: list[pa.Array]) -> list[pa.Array]:
        import pyarrow.compute as pc

        first = len(self.table.time) + (0 if self.table.device is None else 1)
        name = self.table.layout.names[self.table.roles[0].column]
        repeated = pc.equal(pc.utf8_trim_whitespace(part[first]), name)
        count = int(pc.sum(repeated).as_py() or 0)
        self.headers += count
        return [pc.filter(column, pc.invert(repeated)) for column in part] if count else part

    def _seconds(self, times: list[pa.Array]) -> Floats:
        import numpy as np

        seconds, zone = times_of(times)
        if np.isfinite(seconds).any():
            self._zone = zone
        if zone == "none" and np.nanmax(seconds, initial=0.0) <= 86_400.0:
            return self._over_midnight(seconds)
        return seconds

    def _over_midnight(self, seconds: Floats) -> Floats:
        import numpy as np

        known = np.isfinite(seconds)
        if not known.any():
            return seconds
        own = seconds[known]
        if self._last_of_day is not None and own[0] < self._last_of_day - 43_200.0:
            self._days += 86_400.0
        rolled = unrolled(own)
        self._last_of_day = float(own[-1])
        result = seconds.copy()
        result[known] = rolled + self._days
        self._days += float(rolled[-1] - own[-1])
        return result

    def _own_seconds(self, seconds: Floats | None, name: str, rows: NDArray[np.int64]) -> Floats:
        """Times of the rows of a device; counted from 0 in steps of the interval where there are none."""
        import numpy as np

        if seconds is not None:
            return np.asarray(seconds[rows])
        first = self._rows.get(name, 0)
        self._rows[name] = first + len(rows)
        return np.arange(first, first + len(rows), dtype=np.float64) * (self.table.interval_s or 1.0)

    def _builder(self, role: Role, name: str, *, timed: bool) -> TraceBuilder | FlagBuilder:
        key = (role, name)
        if key not in self._builders:
            device = f"{role.device}{name}" if name else role.device
            known = timed or self.table.interval_s is not None
            self._builders[key] = (
                FlagBuilder(device, self._zone)
                if role.quantity == "throttle"
                else TraceBuilder(
                    role.quantity, role.scope, device, self._zone, timed=known, held=self.table.held
                )
            )
        return self._builders[key]

    def _converted(self, role: Role, column: pa.Array) -> Floats:
        import numpy as np

        if role.quantity == "throttle":
            return flags_of(column)
        values, units = numbers_of(column, role.unit, comma=self.table.layout.decimal_comma)
        if len(units) > 1:
            self.mixed |= units
        low, high = PLAUSIBLE.get(role.quantity, (-np.inf, np.inf))
        wrong = np.isfinite(values) & ((values < low) | (values > high))
        self.implausible += int(wrong.sum())
        values[wrong] = np.nan
        return values

    def finish(self) -> tuple[list[Trace], list[Note]]:
        """Traces of every role and device, and what their clocks did."""
        traces, notes = [], []
        for builder in self._builders.values():
            trace = builder.finish()
            if trace is None:
                continue
            traces.append(trace)
            if isinstance(builder, TraceBuilder):
                notes += _clock_notes(builder)
        return traces, list({note.text: note for note in notes}.values())


def _clock_notes(builder: TraceBuilder) -> list[Note]:
    notes = []
    for _, seconds in builder.clock.jumps[:3]:
        text = f"the clock is set back by {seconds:.0f} s; later times are shifted by as much"
        notes.append(Note("clock-jump", text))
    if builder.clock.backward:
        text = f"{counted(builder.clock.backward, 'sample')} out of order; sorted by time"
        notes.append(Note("out-of-order", text))
    if builder.clock.repeated:
        text = f"{counted(builder.clock.repeated, 'sample')} with the time of the one above"
        notes.append(Note("repeated-times", text, "note"))
    return notes


def _pair(role: Role, seconds: Floats, values: Floats) -> tuple[Floats, Floats | NDArray[np.bool_]]:
    return (seconds, values > 0.5) if role.quantity == "throttle" else (seconds, values)


def _groups(names: pa.Array | None, size: int) -> list[tuple[str, NDArray[np.int64]]]:
    """Row numbers by device, in file order."""
    import numpy as np
    import pyarrow.compute as pc

    if names is None:
        return [("", np.arange(size))]
    coded = pc.utf8_trim_whitespace(names).dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False)
    return [
        (str(name), np.flatnonzero(codes == code)) for code, name in enumerate(coded.dictionary.to_pylist())
    ]


def numbers_of(column: pa.Array, unit: str, *, comma: bool = False) -> tuple[Floats, set[str]]:
    """The cells in base units, NaN where there is no number, and the units met."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(column)
    own = _cell_unit(trimmed, comma=comma)
    bare = (
        pc.utf8_rtrim_whitespace(pc.replace_substring(trimmed, own, "", max_replacements=1))
        if own
        else trimmed
    )
    bare = pc.replace_substring(bare, ",", ".") if comma else bare
    try:
        floats = pc.cast(bare, pa.float64())
        if not own:
            return _scaled(np.array(floats.to_numpy(zero_copy_only=False)), unit), {unit}
        if pc.all(pc.ends_with(trimmed, own)).as_py():
            return _scaled(np.array(floats.to_numpy(zero_copy_only=False)), own), {own}
    except pa.ArrowInvalid:
        pass
    return _cell_by_cell(trimmed, unit, own, comma=comma)


def _cell_unit(column: pa.Array, *, comma: bool) -> str:
    """The unit in the first cell that holds a number."""
    for value in column.slice(0, 50).to_pylist():
        number, unit = split_number(value or "", comma=comma)
        if number is not None:
            return unit
    return ""


def _cell_by_cell(column: pa.Array, unit: str, own: str, *, comma: bool) -> tuple[Floats, set[str]]:
    import numpy as np

    units = set()
    # Logs repeat readings, so distinct texts are far fewer than cells.
    coded = column.dictionary_encode()
    table = np.full(max(1, len(coded.dictionary)), np.nan)
    for code, text in enumerate(coded.dictionary.to_pylist()):
        number, found = split_number(text or "", comma=comma)
        if number is None:
            continue
        if own and not found and unit not in ("", own):
            found = unit
        elif own and not found:
            continue  # a cell that lost its unit is a cut row, not a reading
        units.add(found or unit)
        table[code] = to_base(number, found or unit)
    return np.asarray(table[coded.indices.to_numpy(zero_copy_only=False)]), units


def _scaled(values: Floats, unit: str) -> Floats:
    import numpy as np

    if unit in ("°F", "F"):
        return np.asarray((values - 32) / 1.8)
    return np.asarray(values * to_base(1.0, unit) if unit != "K" else values - 273.15)


def flags_of(column: pa.Array) -> Floats:
    """1 where a throttle flag is set, 0 where it is not, NaN where the cell says neither."""
    import numpy as np
    import pyarrow.compute as pc

    coded = pc.utf8_lower(pc.utf8_trim_whitespace(column)).dictionary_encode()
    table = np.array([_flag(text or "") for text in coded.dictionary.to_pylist()] or [np.nan])
    return np.asarray(table[coded.indices.to_numpy(zero_copy_only=False)])


def _flag(text: str) -> float:
    if text.startswith("0x"):
        try:
            return 1.0 if int(text, 16) & _THROTTLE_BITS else 0.0
        except ValueError:
            return float("nan")
    if text in _SET:
        return 1.0
    number, _ = split_number(text)
    if number is not None:
        return 1.0 if number > 0 else 0.0
    return 0.0 if text in _CLEAR else float("nan")


def merged_flags(traces: Sequence[Trace]) -> list[Trace]:
    """Throttle flags of one device joined: a sample is throttled when any flag is set."""
    flags: dict[str, list[Trace]] = {}
    for trace in traces:
        if trace.quantity == "throttle":
            flags.setdefault(trace.device, []).append(trace)
    joined = [_joined(group) if len(group) > 1 else group[0] for group in flags.values()]
    return [*(t for t in traces if t.quantity != "throttle"), *joined]


def _joined(group: list[Trace]) -> Trace:
    """One flag from several: an edge that rises while another flag stays set is no new event."""
    set_at = [frozenset(trace.set_s) for trace in group]
    edges = [frozenset(trace.edges_s) for trace in group]
    times = sorted(frozenset().union(*set_at))
    starts = [
        now
        for before, now in zip([None, *times[:-1]], times, strict=True)
        if any(now in edge for edge in edges)
        and not any(
            before in own and now in own and now not in edge for own, edge in zip(set_at, edges, strict=True)
        )
    ]
    return replace(group[0], edges_s=tuple(starts), set_s=tuple(times))
