"""A compiler for experiments on LLM deployments: text -> plan -> tables -> scores -> report."""

from __future__ import annotations

from typing import Any

__all__ = ["Analysis", "__version__", "analyze"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `import engine` must stay light: the command line starts with it.
    if name in ("Analysis", "analyze"):
        import importlib

        return getattr(importlib.import_module("engine.commands.analysis"), name)
    raise AttributeError(f"module `engine` has no `{name}`")
