"""One measurement at a time on a device: two at once would measure each other."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreBusy
from engine.results.lock import FolderLock

_POLL_S: Final = 0.5


def devices_of(settings: Any, *, count: int = 1) -> tuple[str, ...]:
    """The devices a measured task needs for itself, `count` where its layers are spread over several; none
    when it uses nothing of this machine."""
    if settings.kind == "energy":
        return () if settings.source == "replay" else _accelerators(count)
    if settings.kind == "device_probe":
        return ("cpu",) if settings.device == "cpu" else _accelerators(count)
    target = getattr(settings, "target", None)
    if target is None or target.kind != "local":
        return ()
    return ("cpu",) if target.device == "cpu" else _accelerators(count)


def _accelerators(count: int) -> tuple[str, ...]:
    # A task takes the first of those it sees; runs that take different ones do not disturb each other.
    if not Path("/dev/nvidia0").exists():
        return ("cpu",)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if visible is None else visible.split(",")[:count]
    return tuple("gpu-" + name.strip().replace("/", "-") for name in names)


@contextmanager
def hold_devices(
    devices: Sequence[str], *, say: Callable[[str], None], folder: Path | None = None
) -> Iterator[None]:
    """Hold devices of this machine; waits while another run has one, and says who."""
    base = folder or Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    with ExitStack() as held:
        # In one order for all, so that no two runs wait for each other.
        for device in sorted(devices):
            held.callback(_wait_for(base / f"engine-{os.getuid()}-{device}.lock", device, say).release)
        yield


def _wait_for(path: Path, device: str, say: Callable[[str], None]) -> FolderLock:
    told = False
    while True:
        try:
            return FolderLock(path, what=f"device {device}")
        except StoreBusy as err:
            if not told:
                say(f"waiting: {err.message}")
                told = True
            time.sleep(_POLL_S)
