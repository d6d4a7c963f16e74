# ruff: noqa: E501 - log lines are as long as their tools write them
"""Small logs in real layouts, written by the tests that read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.measure.run_folder import read_run_folder
from engine.measure.run_folder.formats import format_of
from engine.measure.run_folder.record import Read
from engine.measure.run_folder.text import look
from engine.spec.run_folder import RunFolderSettings

# 2026-03-04 10:00:00 as seconds since 1970, local time counted as UTC.
TEN = 1_772_618_400.0


def timings(*, steps: int = 99, time_ms: float = 4950.0, prompt: int = 16, prompt_ms: float = 120.0) -> str:
    """llama.cpp's timing block of late 2024."""
    p = "llama_perf_context_print:"
    return (
        f"{p}        load time =     700.00 ms\n"
        f"{p} prompt eval time = {prompt_ms:10.2f} ms / {prompt:5d} tokens (    7.50 ms per token,   133.33 tokens per second)\n"
        f"{p}        eval time = {time_ms:10.2f} ms / {steps:5d} runs   (   50.00 ms per token,    20.00 tokens per second)\n"
        f"{p}       total time = {time_ms + prompt_ms:10.2f} ms /   115 tokens\n"
    )


def stamp(second: float) -> str:
    """nvidia-smi's time, `second` after ten o'clock."""
    whole, milli = divmod(round(second * 1000), 1000)
    hours, rest = divmod(whole, 3600)
    return f"2026/03/04 {10 + hours:02d}:{rest // 60:02d}:{rest % 60:02d}.{milli:03d}"


def smi(samples: Sequence[tuple[float, float]]) -> str:
    """Power of one device as nvidia-smi writes it: (seconds, watts)."""
    rows = [f"{stamp(t)}, 0, {watts:.2f} W" for t, watts in samples]
    return "\n".join(["timestamp, index, power.draw [W]", *rows]) + "\n"


def constant(watts: float, seconds: float, *, step: float = 1.0, start: float = 0.0) -> str:
    """A power log that never changes."""
    count = round(seconds / step) + 1
    return smi([(start + i * step, watts) for i in range(count)])


def vllm(*, end: str, duration: float, tokens: int, requests: int = 4, **more: Any) -> str:
    """A serving result; `end` is local time `YYYYMMDD-HHMMSS`."""
    value = {
        "date": end, "backend": "vllm", "model_id": "example/some-7b", "num_prompts": requests,
        "duration": duration, "completed": requests, "total_input_tokens": 64 * requests,
        "total_output_tokens": tokens, "request_throughput": requests / duration,
        "request_goodput:": None, "output_throughput": tokens / duration, "mean_ttft_ms": 200.0,
        "mean_tpot_ms": 50.0, "mean_itl_ms": 50.0, **more,
    }  # fmt: skip
    return json.dumps(value)


def put(root: Path, files: dict[str, str | bytes]) -> Path:
    """The files below a root; returns the root."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def settings(path: Path | str = ".", **more: Any) -> RunFolderSettings:
    """Settings as a spec would give them."""
    return RunFolderSettings.model_validate({"kind": "run_folder", "path": str(path), **more})


def read(root: Path | str, **more: Any) -> dict[str, list[dict[str, Any]]]:
    """The tables of a folder as rows; no predictions unless asked for."""
    tables = read_run_folder(settings(root, **{"predictions": False, **more}), jobs=1)
    return {name: table.to_pylist() for name, table in tables.items()}


def whole(tables: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Rows of whole requests by variant."""
    return {row["variant"]: row for row in tables["summary"] if row["phase"] == "request"}


def one(root: Path, **more: Any) -> dict[str, Any]:
    """The only row of whole requests."""
    (row,) = whole(read(root, **more)).values()
    return row


def read_text(folder: Path, content: str | bytes, *, name: str = "log.txt", **more: Any) -> tuple[str, Read]:
    """The format found in a text and what it says."""
    path = put(folder, {name: content}) / name
    source = look(path, name, root=folder)
    form = format_of(source)
    assert form is not None, content[:200]
    return form.name, form.read(source, settings(folder, **more))


def rules(tables: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Rules of the findings."""
    return [row["rule"] for row in tables["findings"]]
