"""Settings of run-folder reading."""

from __future__ import annotations

from typing import Literal

from engine.spec.settings import Settings


class RunFolderSettings(Settings):
    """Read a tree of benchmark logs into the same tables."""

    kind: Literal["run_folder"]
    """Read a folder of logs."""
    path: str
    """Folder, relative to the spec."""
