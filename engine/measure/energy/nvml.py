"""Power through NVML: what each device has is found once, and absent fields stay absent."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.energy.source import SLOWDOWN, WAY_OUT, Metered, Quick, Reading
from engine.measure.energy.tape import ENERGY_FIELD, Asked, FieldTape

_AVERAGE: Final = 185
_INSTANT: Final = 186
_SLOWDOWN_MARGIN: Final = 194
_GPU_SCOPE: Final = 0
_MODULE_SCOPE: Final = 1
_THRESHOLD_SLOWDOWN: Final = 1
_Call = tuple[tuple[str, ...], Callable[[], tuple[float, ...]]]
"""Quantities, and the call that tells them in one go."""


class Nvml:
    """Devices by UUID, all of them where none is named."""

    name = "nvml"

    def __init__(self, *, uuids: Sequence[str] | None = None) -> None:
        self._nvml = _library()
        self._open = True
        try:
            self._readers = [_Reader(self._nvml, handle) for handle in self._find(uuids)]
            # Where others have free devices, one that is split is none of this measurement's business yet.
            if all(device.facts.get("mig") for device in self.devices):
                self._refuse_mig()
            self._refuse_blind()
        except self._nvml.NVMLError as err:
            self.close()
            raise EnvironmentMissing(f"NVML cannot be used: {str(err).lower()}", hint=WAY_OUT) from err
        except BaseException:
            self.close()
            raise

    @property
    def devices(self) -> tuple[Metered, ...]:
        """The devices that count."""
        return tuple(reader.device for reader in self._readers)

    def keep(self, uuids: Collection[str]) -> None:
        """See `PowerSource`; raises `MeasurementError` where one of them is split by MIG."""
        self._readers = [reader for reader in self._readers if reader.device.uuid in uuids]
        self._refuse_mig()
        self._refuse_blind()

    def _find(self, uuids: Sequence[str] | None) -> list[Any]:
        nvml = self._nvml
        if uuids is None:
            count = nvml.nvmlDeviceGetCount()
            if not count:
                raise EnvironmentMissing("NVML sees no device", hint=WAY_OUT)
            # One that fell off its bus or is closed to this user does not hide the others.
            handles = (self._handle(index) for index in range(count))
            if found := [handle for handle in handles if handle is not None]:
                return found
            raise EnvironmentMissing(f"NVML sees {count} devices and may open none", hint=WAY_OUT)
        found = []
        for uuid in uuids:
            try:
                found.append(nvml.nvmlDeviceGetHandleByUUID(uuid))
            except nvml.NVMLError as err:
                raise EnvironmentMissing(f"NVML knows no device `{uuid}`", hint=WAY_OUT) from err
        return found

    def _handle(self, index: int) -> Any:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
            self._nvml.nvmlDeviceGetUUID(handle)
        except self._nvml.NVMLError:
            return None
        return handle

    def _refuse_mig(self) -> None:
        on = [device.uuid for device in self.devices if device.facts.get("mig")]
        if on:
            raise MeasurementError(
                f"MIG is on for `{', '.join(on)}`: its power belongs to the whole board, not to one instance",
                hint="switch MIG off for energy measurements, or measure time alone with `metrics: [time]`",
            )

    def _refuse_blind(self) -> None:
        """Virtual devices and old boards are there and tell no power: better known now than after an hour."""
        if self._readers and not any(reader.metered for reader in self._readers):
            names = ", ".join(f"{device.name} ({device.uuid})" for device in self.devices)
            raise EnvironmentMissing(f"NVML reads neither power nor energy of {names}", hint=WAY_OUT)

    def read(self, *, slow: bool = True) -> list[Reading]:
        """See `PowerSource`; raises `MeasurementError` when a device is lost."""
        return [self._guarded(reader, functools.partial(reader.read, slow=slow)) for reader in self._readers]

    def _guarded(self, reader: _Reader, ask: Callable[[], Reading]) -> Reading:
        try:
            return ask()
        except self._nvml.NVMLError as err:
            raise MeasurementError(f"device `{reader.device.uuid}` was lost: {err}") from err

    def tape(self, turns: int) -> FieldTape:
        """Room for so many turns of readings, filled by the driver itself."""
        nvml = self._nvml
        asked = [reader.asked(functools.partial(self._guarded, reader)) for reader in self._readers]
        # Taken from the library anew: the types of arguments are told for this one use of it alone. Old
        # drivers do not have it, and then no field is asked for.
        call = nvml.nvmlLib["nvmlDeviceGetFieldValues"] if any(one.fields for one in asked) else None
        gone = (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED)
        return FieldTape(call, asked, turns=turns, gone=gone)

    def quick(self, *, slow: bool = False) -> Quick:
        """See `PowerSource`; sums over devices, absent where one device lacks it."""
        found = self.read(slow=slow)
        mask = [int(one["throttle"]) for one in found if "throttle" in one]
        merged = 0
        for bits in mask:
            merged |= bits
        instant = _sum(found, "power_w")
        return Quick(
            energy_j=_sum(found, "energy_j"),
            power_w=_sum(found, "average_power_w") if instant is None else instant,
            averaged=instant is None,
            clock_hz=min((one["sm_clock_hz"] for one in found if "sm_clock_hz" in one), default=None),
            temperature_c=max(
                (one["temperature_c"] for one in found if "temperature_c" in one), default=None
            ),
            throttle=merged if mask else None,
        )

    def users(self) -> dict[str, set[int]]:
        """See `PowerSource`; nobody where the driver does not tell."""
        found: dict[str, set[int]] = {}
        for reader in self._readers:
            told = reader.ask(
                functools.partial(self._nvml.nvmlDeviceGetComputeRunningProcesses, reader.handle)
            )
            found[reader.device.uuid] = {int(process.pid) for process in told or ()}
        return found

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
    if not found or not all(name in one for one in found):
        return None
    return math.fsum(one[name] for one in found)


class _Reader:
    """One device: which calls work is tried once, what fails later is absent in that reading."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self.handle = handle
        self._fields, scope = self._usable_fields()
        self._calls = self._stand_ins()
        have = {*(quantity for quantity, _, _ in self._fields), *self._calls}
        missing = [name for name in ("power_w", "average_power_w", "energy_j") if name not in have]
        self.metered = len(missing) < 3
        self._slow = self._usable_calls()
        told = {name for names, _ in self._slow for name in names}
        missing += [name for name in ("temperature_c", "sm_clock_hz", "throttle") if name not in told]
        self.device = self._identify(scope, missing)

    def _usable_fields(self) -> tuple[list[tuple[str, int, int]], str]:
        """(quantity, field, scope) of each field that answers, and the scope of power."""
        usable = []
        scope = "gpu"
        for quantity, number in (("power_w", _INSTANT), ("average_power_w", _AVERAGE)):
            for place, name in ((_GPU_SCOPE, "gpu"), (_MODULE_SCOPE, "module")):
                # A power of 0 W is how some boards say "not here".
                if self._fetch([(quantity, number, place)]).get(quantity, 0.0) > 0:
                    usable.append((quantity, number, place))
                    scope = name if quantity == "power_w" else scope
                    break
        if "energy_j" in self._fetch([("energy_j", ENERGY_FIELD, 0)]):
            usable.append(("energy_j", ENERGY_FIELD, 0))
        return usable, scope

    def _stand_ins(self) -> dict[str, Callable[[], float]]:
        """Calls of their own for what no field answers: older drivers, virtual devices."""
        nvml, handle = self._nvml, self.handle
        have = {quantity for quantity, _, _ in self._fields}
        calls: dict[str, Callable[[], float]] = {}
        if "energy_j" not in have:
            calls["energy_j"] = lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        if not have & {"power_w", "average_power_w"}:
            calls["average_power_w"] = lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3
        return {name: call for name, call in calls.items() if self._works(call)}

    def _fetch(self, fields: Sequence[tuple[str, int, int]]) -> dict[str, float]:
        """Each field that answered, by quantity; the call may be good while a field in it is not."""
        wanted = [(number, place) for _, number, place in fields]
        values = (
            self._answer(lambda: self._nvml.nvmlDeviceGetFieldValues(self.handle, wanted)) if wanted else ()
        )
        if values is None:
            return {}
        found = {}
        for (quantity, number, _), value in zip(fields, values, strict=True):
            if value.nvmlReturn == self._nvml.NVML_SUCCESS:
                # Millijoules in 64 bits, milliwatts in 32.
                raw = value.value.ullVal if number == ENERGY_FIELD else value.value.uiVal
                found[quantity] = raw / 1e3
        return found

    def _usable_calls(self) -> list[_Call]:
        nvml, handle = self._nvml, self.handle
        calls: list[_Call] = [
            (("temperature_c",), lambda: (float(self._temperature()),)),
            (("sm_clock_hz",), lambda: (1e6 * nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),)),
            (("memory_clock_hz",), lambda: (1e6 * nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),)),
            (("utilization", "memory_utilization"), self._use),
            (("memory_used_bytes",), lambda: (float(self._memory()),)),
            (("throttle",), lambda: (float(self._reasons()),)),
        ]
        return [(names, call) for names, call in calls if self._works(call)]

    def _use(self) -> tuple[float, float]:
        found = self._nvml.nvmlDeviceGetUtilizationRates(self.handle)
        return found.gpu / 100, found.memory / 100

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
            return int(nvml.nvmlDeviceGetTemperatureV(self.handle, nvml.NVML_TEMPERATURE_GPU))
        except nvml.NVMLError:
            return int(nvml.nvmlDeviceGetTemperature(self.handle, nvml.NVML_TEMPERATURE_GPU))

    def _memory(self) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetMemoryInfo(self.handle, version=nvml.nvmlMemory_v2).used)
        except nvml.NVMLError:
            return int(nvml.nvmlDeviceGetMemoryInfo(self.handle).used)

    def _reasons(self) -> int:
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(self.handle))
        except nvml.NVMLError:
            return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle))

    def read(self, *, slow: bool) -> dict[str, float]:
        found = self._fetch(self._fields) | self._other()
        return found | self._changing_slowly() if slow else found

    def _other(self) -> dict[str, float]:
        """What no field tells."""
        found = {name: self._answer(call) for name, call in self._calls.items()}
        return {name: value for name, value in found.items() if value is not None}

    def _changing_slowly(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for names, call in self._slow:
            values = self._answer(call)
            if values is not None:
                found.update(zip(names, values, strict=True))
        return found

    def asked(self, guarded: Callable[[Callable[[], Reading]], Reading]) -> Asked:
        """What a recorder reads of this device, and how often: a mean over a second is only worth a slow look
        where the power of this moment is there."""
        slow = {"average_power_w"} if any(name == "power_w" for name, _, _ in self._fields) else set()
        fields = sorted(self._fields, key=lambda field: field[0] in slow)
        return Asked(
            self.device.uuid,
            ctypes.cast(self.handle, ctypes.c_void_p).value or 0,
            fields,
            often=sum(name not in slow for name, _, _ in fields),
            calls=functools.partial(guarded, self._other) if self._calls else None,
            slow=functools.partial(guarded, self._changing_slowly),
        )

    def _answer(self, call: Callable[[], Any]) -> Any:
        """What a call says now; None where it fails this time. Raises when the device is gone for good."""
        try:
            return call()
        except self._nvml.NVMLError as err:
            if err.value in (self._nvml.NVML_ERROR_GPU_IS_LOST, self._nvml.NVML_ERROR_UNINITIALIZED):
                raise
            return None

    def _identify(self, scope: str, missing: Sequence[str]) -> Metered:
        nvml, handle = self._nvml, self.handle
        facts: dict[str, Any] = {
            "driver": self.ask(nvml.nvmlSystemGetDriverVersion),
            "power_limit_w": self.ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3),
            "persistence": self.ask(lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle))),
            "ecc": self.ask(lambda: bool(nvml.nvmlDeviceGetEccMode(handle)[0])),
            "mig": self.ask(lambda: bool(nvml.nvmlDeviceGetMigMode(handle)[0])),
            "architecture": self.ask(lambda: nvml.nvmlDeviceGetArchitecture(handle)),
            SLOWDOWN: self._slowdown(),
            "missing": ", ".join(missing) or None,
        }
        return Metered(
            uuid=str(nvml.nvmlDeviceGetUUID(handle)),
            index=int(self.ask(lambda: nvml.nvmlDeviceGetIndex(handle)) or 0),
            name=str(self.ask(lambda: nvml.nvmlDeviceGetName(handle)) or "unknown"),
            scope=scope,
            facts={name: value for name, value in facts.items() if value is not None},
        )

    def _slowdown(self) -> float | None:
        """Temperature at which the device slows down: told up to Ampere, later only the margin to it."""
        nvml, handle = self._nvml, self.handle
        told = self.ask(lambda: nvml.nvmlDeviceGetTemperatureThreshold(handle, _THRESHOLD_SLOWDOWN))
        if told:
            return float(told)
        margin = self.ask(lambda: nvml.nvmlDeviceGetMarginTemperature(handle))
        now = self.ask(self._temperature)
        if margin is None or now is None:
            return None
        # The margin counts down to the first limit; field 194 says how far slowdown lies from there.
        values = self.ask(lambda: nvml.nvmlDeviceGetFieldValues(handle, [_SLOWDOWN_MARGIN]))
        beyond = 0
        if values is not None and values[0].nvmlReturn == nvml.NVML_SUCCESS:
            beyond = int(values[0].value.siVal)
        return float(now + margin - beyond)

    def ask(self, call: Callable[[], Any]) -> Any:
        """What a call says; None where this driver or device does not know it."""
        try:
            return call()
        except self._nvml.NVMLError:
            return None
