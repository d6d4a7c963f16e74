"""Power through NVML: what each device has is found once, and absent fields stay absent."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.energy.source import WAY_OUT, Metered, Quick, Reading

_ENERGY: Final = 83
_AVERAGE: Final = 185
_INSTANT: Final = 186
_SLOWDOWN_MARGIN: Final = 194
_GPU_SCOPE: Final = 0
_MODULE_SCOPE: Final = 1
_THRESHOLD_SLOWDOWN: Final = 1


class Nvml:
    """Devices by UUID, all of them where none is named."""

    name = "nvml"

    def __init__(self, *, uuids: Sequence[str] | None = None) -> None:
        self._nvml = _library()
        self._open = True
        try:
            self._handles = self._find(uuids)
            self._readers = [_Reader(self._nvml, handle) for handle in self._handles]
            self.devices = tuple(reader.device for reader in self._readers)
            self._refuse_mig()
        except BaseException:
            self.close()
            raise

    def _find(self, uuids: Sequence[str] | None) -> list[Any]:
        nvml = self._nvml
        if uuids is None:
            count = nvml.nvmlDeviceGetCount()
            if not count:
                raise EnvironmentMissing("NVML sees no device", hint=WAY_OUT)
            return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        found = []
        for uuid in uuids:
            try:
                found.append(nvml.nvmlDeviceGetHandleByUUID(uuid))
            except nvml.NVMLError as err:
                raise EnvironmentMissing(f"NVML knows no device `{uuid}`", hint=WAY_OUT) from err
        return found

    def _refuse_mig(self) -> None:
        on = [device.uuid for device in self.devices if device.facts.get("mig")]
        if on:
            raise MeasurementError(
                f"MIG is on for `{', '.join(on)}`: its power belongs to the whole board, not to one instance",
                hint="switch MIG off for energy measurements, or measure time alone with `metrics: [time]`",
            )

    def read(self, *, slow: bool = True) -> list[Reading]:
        """See `PowerSource`; raises `MeasurementError` when a device is lost."""
        return [self._guarded(reader, slow=slow) for reader in self._readers]

    def _guarded(self, reader: _Reader, *, slow: bool) -> Reading:
        try:
            return reader.read(slow=slow)
        except self._nvml.NVMLError as err:
            raise MeasurementError(f"device `{reader.device.uuid}` was lost: {err}") from err

    def quick(self, *, slow: bool = False) -> Quick:
        """See `PowerSource`; sums over devices, absent where one device lacks it."""
        found = self.read(slow=slow)
        mask = [int(one["throttle"]) for one in found if "throttle" in one]
        merged = 0
        for bits in mask:
            merged |= bits
        return Quick(
            energy_j=_sum(found, "energy_j"),
            power_w=_sum(found, "power_w"),
            clock_hz=min((one["sm_clock_hz"] for one in found if "sm_clock_hz" in one), default=None),
            temperature_c=max(
                (one["temperature_c"] for one in found if "temperature_c" in one), default=None
            ),
            throttle=merged if mask else None,
        )

    def foreign(self, own: Sequence[int]) -> list[int]:
        """See `PowerSource`; empty where the driver does not tell."""
        found: set[int] = set()
        for handle in self._handles:
            with contextlib.suppress(self._nvml.NVMLError):
                found |= {int(p.pid) for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        return sorted(found - set(own))

    def close(self) -> None:
        """Let the library go."""
        if self._open:
            self._open = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()


def _library() -> Any:
    try:
        import pynvml
    except ModuleNotFoundError as err:
        raise EnvironmentMissing("`nvidia-ml-py` is not installed", hint="pip install nvidia-ml-py") from err
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        raise EnvironmentMissing(
            "the module `pynvml` is not that of nvidia-ml-py",
            hint="pip uninstall pynvml; pip install --force-reinstall nvidia-ml-py",
        )
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as err:
        raise EnvironmentMissing(f"NVML cannot be used: {str(err).lower()}", hint=WAY_OUT) from err
    return pynvml


def _sum(found: Sequence[Reading], name: str) -> float | None:
    if not all(name in one for one in found):
        return None
    return math.fsum(one[name] for one in found)


class _Reader:
    """One device: which calls work is tried once, what fails later is absent in that reading."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._fields, scope, missing = self._usable_fields()
        self._slow = self._usable_calls()
        missing += [name for name in ("temperature_c", "sm_clock_hz", "throttle") if name not in self._slow]
        self.device = self._identify(scope, missing)

    def _usable_fields(self) -> tuple[list[tuple[str, int, int]], str, list[str]]:
        """(quantity, field, scope) of each field that answers, the scope, and what is missing."""
        usable = []
        scope = "gpu"
        for quantity, number in (("power_w", _INSTANT), ("average_power_w", _AVERAGE)):
            for place, name in ((_GPU_SCOPE, "gpu"), (_MODULE_SCOPE, "module")):
                # A power of 0 W is how some boards say "not here".
                if self._fetch([(quantity, number, place)]).get(quantity, 0.0) > 0:
                    usable.append((quantity, number, place))
                    scope = name if quantity == "power_w" else scope
                    break
        if "energy_j" in self._fetch([("energy_j", _ENERGY, 0)]):
            usable.append(("energy_j", _ENERGY, 0))
        have = {quantity for quantity, _, _ in usable}
        missing = [name for name in ("power_w", "average_power_w", "energy_j") if name not in have]
        return usable, scope, missing

    def _fetch(self, fields: Sequence[tuple[str, int, int]]) -> dict[str, float]:
        """Each field that answered, by quantity; the call may be good while a field in it is not."""
        if not fields:
            return {}
        values = self._nvml.nvmlDeviceGetFieldValues(
            self._handle, [(number, place) for _, number, place in fields]
        )
        found = {}
        for (quantity, number, _), value in zip(fields, values, strict=True):
            if value.nvmlReturn == self._nvml.NVML_SUCCESS:
                # Millijoules in 64 bits, milliwatts in 32.
                raw = value.value.ullVal if number == _ENERGY else value.value.uiVal
                found[quantity] = raw / 1e3
        return found

    def _usable_calls(self) -> dict[str, Callable[[], float]]:
        nvml, handle = self._nvml, self._handle
        calls: dict[str, Callable[[], float]] = {
            "temperature_c": lambda: float(self._temperature()),
            "sm_clock_hz": lambda: 1e6 * nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_hz": lambda: 1e6 * nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100,
            "memory_utilization": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).memory / 100,
            "memory_used_bytes": lambda: float(self._memory()),
            "throttle": lambda: float(self._reasons()),
        }
        if not any(quantity in ("power_w", "average_power_w") for quantity, _, _ in self._fields):
            calls["average_power_w"] = lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        return {name: call for name, call in calls.items() if self._works(call)}

    def _works(self, call: Callable[[], Any]) -> bool:
        try:
            call()
        except self._nvml.NVMLError:
            return False
        return True

    def _temperature(self) -> int:
        nvml = self._nvml
        # The older call is deprecated and gone in CUDA 14; the newer one is not in older drivers.
        try:
            return int(nvml.nvmlDeviceGetTemperatureV(self._handle, nvml.NVML_TEMPERATURE_GPU))
        except nvml.NVMLError:
            return int(nvml.nvmlDeviceGetTemperature(self._handle, nvml.NVML_TEMPERATURE_GPU))

    def _memory(self) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetMemoryInfo(self._handle, version=nvml.nvmlMemory_v2).used)
        except nvml.NVMLError:
            return int(nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def _reasons(self) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        except nvml.NVMLError:
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))

    def read(self, *, slow: bool) -> dict[str, float]:
        found = self._fetch(self._fields)
        if slow or "power_w" not in found:
            for name, call in self._slow.items():
                # One reading that fails now is absent now; a lost device fails in the fields above.
                with contextlib.suppress(self._nvml.NVMLError):
                    found[name] = call()
        return found

    def _identify(self, scope: str, missing: Sequence[str]) -> Metered:
        nvml, handle = self._nvml, self._handle
        facts: dict[str, Any] = {
            "driver": self._ask(nvml.nvmlSystemGetDriverVersion),
            "power_limit_w": self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3),
            "persistence": self._ask(lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle))),
            "ecc": self._ask(lambda: bool(nvml.nvmlDeviceGetEccMode(handle)[0])),
            "mig": self._ask(lambda: bool(nvml.nvmlDeviceGetMigMode(handle)[0])),
            "architecture": self._ask(lambda: nvml.nvmlDeviceGetArchitecture(handle)),
            "slowdown_temperature_c": self._slowdown(),
            "missing": ", ".join(missing) or None,
        }
        return Metered(
            uuid=str(nvml.nvmlDeviceGetUUID(handle)),
            index=int(self._ask(lambda: nvml.nvmlDeviceGetIndex(handle)) or 0),
            name=str(self._ask(lambda: nvml.nvmlDeviceGetName(handle)) or "unknown"),
            scope=scope,
            facts={name: value for name, value in facts.items() if value is not None},
        )

    def _slowdown(self) -> float | None:
        """Temperature at which the device slows down: told up to Ampere, later only the margin to it."""
        nvml, handle = self._nvml, self._handle
        told = self._ask(lambda: nvml.nvmlDeviceGetTemperatureThreshold(handle, _THRESHOLD_SLOWDOWN))
        if told:
            return float(told)
        margin = self._ask(lambda: nvml.nvmlDeviceGetMarginTemperature(handle))
        now = self._ask(self._temperature)
        if margin is None or now is None:
            return None
        # The margin counts down to the first limit; field 194 says how far slowdown lies from there.
        values = self._ask(lambda: nvml.nvmlDeviceGetFieldValues(handle, [_SLOWDOWN_MARGIN]))
        beyond = 0
        if values is not None and values[0].nvmlReturn == nvml.NVML_SUCCESS:
            beyond = int(values[0].value.siVal)
        return float(now + margin - beyond)

    def _ask(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except self._nvml.NVMLError:
            return None
