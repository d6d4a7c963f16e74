"""Settings of training-run reading."""

from __future__ import annotations

from typing import Literal

from engine.spec.settings import Settings


class TrainingSettings(Settings):
    """Read what a training run left behind: logs, configs, compile caches."""

    kind: Literal["training"]
    """Read a training run."""
    log_file: str | None = None
    """Training log, relative to the spec."""
    config: str | None = None
    """Training configuration (YAML), relative to the spec."""
    compile_dir: str | None = None
    """Compile cache with HLO modules, relative to the spec."""
