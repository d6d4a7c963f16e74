"""The formats, told apart by content. Adding one is one file with `FORMAT`, named in `_MODULES`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from engine.measure.run_folder.record import Read
from engine.measure.run_folder.text import Source
from engine.spec.run_folder import RunFolderSettings


@dataclass(frozen=True)
class Format:
    """One format: `sniff` looks at the head and the tail of a file, `read` reads all of it."""

    name: str
    title: str
    sniff: Callable[[Source], bool]
    read: Callable[[Source, RunFolderSettings], Read]


# Asked in this order: what has an unmistakable mark first, what takes a search of the whole sample later,
# tables that only columns explain last.
_MODULES: Final = (
    "own_tables",
    "nvidia_smi",
    "nvidia_dmon",
    "dcgmi_dmon",
    "hwinfo",
    "pcm",
    "energy_phases",
    "board_results",
    "concurrency_traces",
    "llama_bench",
    "vllm_bench",
    "vllm_offline",
    "guidellm",
    "aiperf",
    "optimum",
    "neuron",
    "energy_profiler",
    "mobile_profile",
    "llama_cpp",
    "mlperf",
    "serving_text",
    "tensorrt_llm",
    "openvino",
    "text_client",
    "turbostat",
    "powermetrics",
    "uprof",
    "ipmi",
    "socwatch",
    "rails",
    "job_info",
    "columns",
)


@lru_cache(maxsize=1)
def formats() -> tuple[Format, ...]:
    """Every format, in the order in which they are asked."""
    found = []
    for name in _MODULES:
        found += importlib.import_module(f"engine.measure.run_folder.formats.{name}").FORMATS
    return tuple(found)


def format_of(source: Source) -> Format | None:
    """The first format whose marks the file shows; None when no format fits."""
    return next((one for one in formats() if one.sniff(source)), None)
