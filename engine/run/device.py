"""One measurement at a time on a device: two at once would measure each other."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreBusy
from engine.results.lock import FolderLock

_POLL_S: Final = 0.5


def device_of(settings: Any) -> str | None:
    """The device a measured task needs for itself; None when it uses none of this machine."""
    if settings.kind == "energy":
        return None if settings.source == "replay" else _accelerator()
    target = getattr(settings, "target", None)
    if target is None or target.kind != "local":
        return None
    return "cpu" if target.device == "cpu" else _accelerator()


def _accelerator() -> str:
    # Which of several devices a task gets is decided by CUDA_VISIBLE_DEVICES; runs that see different
    # ones do not disturb each other.
    if not Path("/dev/nvidia0").exists():
        return "cpu"
    return "gpu-" + os.environ.get("CUDA_VISIBLE_DEVICES", "0").replace(",", "-").replace("/", "-")


@contextmanager
def hold_device(
    device: str | None, *, say: Callable[[str], None], folder: Path | None = None
) -> Iterator[None]:
    """Hold a device of this machine; waits while another run has it, and says who."""
    if device is None:
        yield
        return
    base = folder or Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    path = base / f"engine-{os.getuid()}-{device}.lock"
    lock = _wait_for(path, device, say)
    try:
        yield
    finally:
        lock.release()


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
