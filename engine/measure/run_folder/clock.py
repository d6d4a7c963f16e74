"""Times as logs write them, as seconds since 1970; local times count as if they were UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from engine.measure.run_folder.trace import Zone

    Floats = NDArray[np.float64]

_CLOCK: Final = re.compile(
    r"^([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:[.,:]([0-9]{1,9}))?)?\s*([AaPp][Mm])?$"
)
_YEAR_FIRST: Final = re.compile(r"^([0-9]{4})[-/.]?([0-9]{1,2})[-/.]?([0-9]{1,2})$")
_YEAR_LAST: Final = re.compile(r"^([0-9]{1,2})([-/.])([0-9]{1,2})[-/.]([0-9]{4})$")
_ISO: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?$"
_ZONED: Final = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
_DAY: Final = 86_400.0


def parse_time(text: str) -> tuple[float | None, Zone]:
    """Seconds since 1970 and the clock they are on; a bare time of day counts from midnight (`none`)."""
    text = text.strip().strip('"')
    as_number = _epoch(text)
    if as_number is not None:
        return as_number
    zone: Zone = "local"
    ending = re.search(_ZONED, text)
    if ending and ":" in text[: ending.start()]:
        try:
            moment = datetime.fromisoformat(text.replace("/", "-"))
        except ValueError:
            return None, "none"
        return moment.timestamp(), "utc"
    date, _, clock = text.replace("T", " ").partition(" ")
    if not clock:
        seconds = _seconds_of_day(date)
        return (seconds, "none") if seconds is not None else (_day(date), zone)
    day, seconds = _day(date), _seconds_of_day(clock.strip())
    return (None, "none") if day is None or seconds is None else (day + seconds, zone)


def _epoch(text: str) -> tuple[float, Zone] | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not abs(value) < 1e20:  # infinity and NaN too
        return None
    for limit, factor in ((1e17, 1e-9), (1e14, 1e-6), (1e11, 1e-3), (1e8, 1.0)):
        if value >= limit and not re.fullmatch(r"(19|20)[0-9]{6}", text):  # 20260304 is a date
            return value * factor, "utc"
    return None if re.fullmatch(r"(19|20)[0-9]{6}", text) else (value, "none")


@lru_cache(maxsize=4096)
def _day(text: str) -> float | None:
    """Midnight of a date; `3/4/2026` has the month first, `4.3.2026` the day."""
    try:
        if found := _YEAR_FIRST.match(text):
            year, month, day = (int(part) for part in found.groups())
        elif found := _YEAR_LAST.match(text):
            first, sign, second, year_text = found.groups()
            year = int(year_text)
            day, month = (
                (int(first), int(second)) if sign != "/" or int(first) > 12 else (int(second), int(first))
            )
        else:
            return None
        return datetime(year, month, day, tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _seconds_of_day(text: str) -> float | None:
    found = _CLOCK.match(text)
    if found is None:
        return None
    hours, minutes, seconds, fraction, half = found.groups()
    hour = int(hours)
    if half:
        hour = hour % 12 + (12 if half.lower() == "pm" else 0)
    # `10:15:00:120` writes milliseconds without zero padding; after a point it is a decimal fraction.
    millis = ":" in text[found.start(4) - 1 : found.start(4)] if fraction else False
    part = 0.0 if not fraction else (int(fraction) / 1000 if millis else float(f"0.{fraction}"))
    return hour * 3600.0 + int(minutes) * 60.0 + int(seconds or 0) + part


def times_of(columns: list[pa.Array]) -> tuple[Floats, Zone]:
    """Seconds of each row, NaN where a row has none; date and time may stand in two columns."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    joined = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, " ")
    text = pc.replace_substring(pc.utf8_trim_whitespace(joined), "/", "-")
    try:
        if pc.match_substring_regex(text.slice(0, 1), _ZONED)[0].as_py() and ":" in text[0].as_py()[10:]:
            return _micros(pc.cast(text, pa.timestamp("us", "UTC"))), "utc"
        return _micros(pc.cast(text, pa.timestamp("us"))), "local"
    except (pa.ArrowInvalid, IndexError):
        pass
    fits = pc.match_substring_regex(text, _ISO)
    if len(text) and (pc.sum(pc.cast(fits, pa.int64())).as_py() or 0) > len(text) // 2:
        return _micros(pc.cast(pc.if_else(fits, text, None), pa.timestamp("us"))), "local"
    parsed = [parse_time(value or "") for value in joined.to_pylist()]
    zones = [zone for seconds, zone in parsed if seconds is not None]
    seconds = np.array([np.nan if s is None else s for s, _ in parsed])
    return seconds, zones[0] if zones else "none"


def _micros(stamps: pa.Array) -> Floats:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    micros = pc.cast(stamps, pa.int64())
    seconds: Floats = pc.cast(micros, pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
    return np.asarray(seconds)


def unrolled(seconds: Floats) -> Floats:
    """Times of day made to grow over midnight."""
    import numpy as np

    return seconds + _DAY * np.concatenate([[0], np.cumsum(np.diff(seconds) < -_DAY / 2)])
