"""Readings kept as they come, so that a recorder that wakes a hundred times a second has little to do.

Asked through pynvml, three fields cost 23 us of processor time a reading (a new array, a lock, six objects);
into memory that was laid out before, one call costs 1 us, and what it wrote is read when a block is full.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from engine.errors import MeasurementError
from engine.measure.energy.trace import QUANTITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engine.measure.energy.source import PowerSource
    from engine.measure.energy.trace import Floats

COLUMNS: Final = ("time_s", "device", *QUANTITIES)
ENERGY_FIELD: Final = 83
_NOT_READ: Final = 3
"""NVML's own "not supported": what a field says until the driver has written it."""
_FIELD: Final[Any] = {
    "names": ["field", "scope", "result", "millijoules", "milliwatts"],
    "formats": ["<u4", "<u4", "<i4", "<u8", "<u4"],
    # nvmlFieldValue_t: type and two stamps lie between, the last two are a union.
    "offsets": [0, 4, 28, 32, 32],
    "itemsize": 40,
}


class Tape(Protocol):
    """Room for some turns of readings."""

    def turn(self, moment_s: float, *, slow: bool) -> None:
        """Read every device now; with `slow`, what changes slowly too."""
        ...

    def drain(self) -> list[Floats]:
        """What was read since the last time, an array a column of `COLUMNS`, NaN where nothing was."""
        ...

    def __len__(self) -> int:
        """Rows that wait to be drained: one a device and turn."""
        ...


class ReadingTape:
    """Of any source, by its readings."""

    def __init__(self, source: PowerSource) -> None:
        self._source = source
        self._rows = array("d")

    def __len__(self) -> int:
        return len(self._rows) // len(COLUMNS)

    def turn(self, moment_s: float, *, slow: bool) -> None:
        """See `Tape`; a source that stamps its readings itself is believed."""
        for device, reading in enumerate(self._source.read(slow=slow)):
            self._rows.extend((reading.get("time_s", moment_s), device))
            self._rows.extend(reading.get(name, float("nan")) for name in QUANTITIES)

    def drain(self) -> list[Floats]:
        """See `Tape`."""
        import numpy as np

        rows, self._rows = self._rows, array("d")
        table = np.frombuffer(rows, dtype=np.float64).reshape(-1, len(COLUMNS))
        return [np.ascontiguousarray(column) for column in table.T]


@dataclass(frozen=True)
class Asked:
    """What one device is asked for."""

    uuid: str
    handle: int
    """Address that NVML knows the device by."""
    fields: Sequence[tuple[str, int, int]]
    """(quantity, field, scope), those of every turn first."""
    often: int
    """How many of them are read every turn; the others are when it is time for slow ones."""
    calls: Callable[[], Mapping[str, float]] | None
    """What no field tells and every turn needs: drivers without fields."""
    slow: Callable[[], Mapping[str, float]]
    """What changes slowly, each by a call of its own."""


class FieldTape:
    """Of NVML: the driver writes its answers where they will be looked for."""

    def __init__(self, get_fields: Any, asked: Sequence[Asked], *, turns: int, gone: Sequence[int]) -> None:
        if get_fields is not None:  # a driver without fields has no such call
            get_fields.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
            get_fields.restype = ctypes.c_int
        self._turns = turns
        self._times = array("d")
        self._devices = [_Device(get_fields, one, turns=turns, gone=gone) for one in asked]

    def __len__(self) -> int:
        return len(self._times) * len(self._devices)

    def turn(self, moment_s: float, *, slow: bool) -> None:
        """See `Tape`; raises `MeasurementError` when a device is lost."""
        row = len(self._times)
        if row >= self._turns:  # the driver would write where nothing was laid out
            raise MeasurementError(f"a tape of {self._turns} turns is full and was not drained")
        for device in self._devices:
            device.read(row, slow=slow)
        self._times.append(moment_s)

    def drain(self) -> list[Floats]:
        """See `Tape`."""
        import numpy as np

        times = np.array(self._times, dtype=np.float64)
        self._times = array("d")
        blocks = []
        for number, device in enumerate(self._devices):
            found = device.drain(len(times))
            absent = np.full(len(times), np.nan)
            told = [found.get(name, absent) for name in QUANTITIES]
            blocks.append([times, np.full(len(times), float(number)), *told])
        return [np.concatenate(columns) for columns in zip(*blocks, strict=True)]


class _Device:
    def __init__(self, get_fields: Any, asked: Asked, *, turns: int, gone: Sequence[int]) -> None:
        import numpy as np

        self._asked = asked
        self._call = get_fields
        self._gone = gone
        self._blank: NDArray[Any] = np.zeros(len(asked.fields), np.dtype(_FIELD))
        self._blank["field"] = [number for _, number, _ in asked.fields]
        self._blank["scope"] = [scope for _, _, scope in asked.fields]
        self._blank["result"] = _NOT_READ
        self._block: NDArray[Any] = np.tile(self._blank, (turns, 1))
        self._handle, self._begin, self._row_bytes = asked.handle, self._block.ctypes.data, self._blank.nbytes
        self._often, self._all = asked.often, len(asked.fields)
        self._others: list[tuple[int, Mapping[str, float]]] = []

    def read(self, row: int, *, slow: bool) -> None:
        wanted = self._all if slow else self._often
        if wanted:
            result = self._call(self._handle, wanted, self._begin + row * self._row_bytes)
            if result:
                self._refused(row, result)
        if self._asked.calls is not None:
            self._others.append((row, self._asked.calls()))
        if slow:
            self._others.append((row, self._asked.slow()))

    def _refused(self, row: int, result: int) -> None:
        """A call that failed once leaves a gap; one that says the device is gone ends the recording."""
        if result in self._gone:
            raise MeasurementError(f"device `{self._asked.uuid}` was lost: NVML says {result}")
        self._block[row]["result"] = result

    def drain(self, turns: int) -> dict[str, Floats]:
        import numpy as np

        found: dict[str, Floats] = {}
        for place, (quantity, number, _) in enumerate(self._asked.fields):
            answers = self._block[:turns, place]
            raw = answers["millijoules" if number == ENERGY_FIELD else "milliwatts"]
            found[quantity] = np.where(answers["result"] == 0, raw / 1e3, np.nan)
        for row, reading in self._others:
            for quantity, value in reading.items():
                found.setdefault(quantity, np.full(turns, np.nan))[row] = value
        self._others = []
        # An answer must not be taken for that of a later turn.
        self._block[:turns] = self._blank
        return found
