"""A compiler for experiments on LLM deployments: text -> plan -> tables -> scores -> report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.commands.analysis import Analysis, analyze

__all__ = ["Analysis", "__version__", "analyze"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `import engine` must stay light: the command line starts with it.
    if name in ("Analysis", "analyze"):
        from engine.commands import analysis

        return getattr(analysis, name)
    raise AttributeError(f"module `engine` has no `{name}`")
