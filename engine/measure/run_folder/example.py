"""A small tree of runs in real formats, to try the reader on: layouts are real, all numbers are invented."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from engine.errors import UsageError

_STARTED: Final = datetime(2026, 3, 4, 14, 0, tzinfo=UTC)
_GPU: Final = "NVIDIA A100-SXM4-80GB"
_STEP_S: Final = 0.5
_LEAD_S: Final = 4.0
"""Idle seconds before and after inference."""


@dataclass(frozen=True)
class _Made:
    """One run that is made up."""

    folder: str
    parameters: float
    weights_gib: float
    batch: int
    prompt_tokens: int
    output_tokens: int
    """Tokens of one sequence."""
    ttft_s: float
    tpot_s: float
    idle_w: float
    busy_w: float
    memory_mib: int
    start_c: float
    end_c: float
    started: datetime

    @property
    def inference_s(self) -> float:
        """Prefill and generation."""
        return self.ttft_s + (self.output_tokens - 1) * self.tpot_s

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Start and end of inference."""
        start = self.started + timedelta(seconds=_LEAD_S)
        return start, start + timedelta(seconds=self.inference_s)

    def times(self, step_s: float) -> list[datetime]:
        """Sampling times from before to after inference."""
        count = int((self.inference_s + 2 * _LEAD_S) / step_s) + 1
        return [self.started + timedelta(seconds=i * step_s) for i in range(count)]

    def power(self, when: datetime) -> float:
        """Board power: a wave of 2 % around the level."""
        level = self.busy_w if self.window[0] <= when <= self.window[1] else self.idle_w
        return round(level * (1 + 0.02 * math.sin((when - self.started).total_seconds() * 1.7)), 2)

    def temperature(self, when: datetime) -> float:
        """Rises along inference and stays up."""
        share = (when - self.window[0]).total_seconds() / self.inference_s
        return round(self.start_c + (self.end_c - self.start_c) * min(1.0, max(0.0, share)), 1)


def _runs() -> list[_Made]:
    # folder, parameters, GiB, batch, prompt, output, ttft, tpot, idle W, busy W, MiB, first C, last C
    rows = (
        ("llama_7b/batch_1", 6.74e9, 12.55, 1, 128, 800, 0.031, 0.0105, 62.0, 241.0, 14_112, 36.0, 47.0),
        ("llama_7b/batch_4", 6.74e9, 12.55, 4, 128, 800, 0.052, 0.0111, 62.0, 268.0, 16_420, 38.0, 52.0),
        ("llama_7b/batch_8", 6.74e9, 12.55, 8, 128, 800, 0.090, 0.0118, 62.0, 291.0, 19_530, 39.0, 57.0),
        ("llama_13b/batch_1", 13.02e9, 24.24, 1, 128, 800, 0.058, 0.0195, 63.0, 262.0, 26_300, 37.0, 51.0),
        ("llama_13b/batch_4", 13.02e9, 24.24, 4, 128, 800, 0.101, 0.0204, 63.0, 287.0, 29_900, 39.0, 58.0),
        ("llama_13b/batch_8", 13.02e9, 24.24, 8, 128, 800, 0.175, 0.0217, 63.0, 312.0, 34_800, 41.0, 64.0),
        ("llama_70b/batch_1", 68.98e9, 36.20, 1, 128, 400, 0.240, 0.0320, 64.0, 301.0, 41_200, 38.0, 61.0),
        ("llama_70b/batch_4", 68.98e9, 36.20, 4, 128, 400, 0.610, 0.0365, 64.0, 334.0, 47_900, 42.0, 84.0),
    )
    return [_Made(*row, started=_STARTED + timedelta(minutes=5 * i)) for i, row in enumerate(rows)]


def write_example_runs(folder: Path) -> list[Path]:
    """Eight runs of three model sizes in five formats of inference, three of power and thermal logs.

    Returns the files; raises `UsageError` where one of them exists already.
    """
    inference: Sequence[Callable[[_Made], str]] = (
        _llama_cpp, _vllm_json, _vllm_text, _llama_server, _vllm_json, _vllm_text, _llama_cpp, _trtllm,
    )  # fmt: skip
    written = []
    for run, text in zip(_runs(), inference, strict=True):
        model = run.folder.split("/")[0]
        power, thermal = {
            "llama_7b": (_smi_units, _smi_thermal),
            "llama_13b": (_smi_plain, _hwinfo),
            "llama_70b": (_smi_plain, _smi_thermal),
        }[model]
        for name, content in (
            ("inference_output.txt", text(run)),
            ("power_metrics.csv", power(run)),
            ("thermal_data.csv", thermal(run)),
        ):
            written.append(_put(folder / run.folder / name, content))
    return written


def _put(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except FileExistsError as err:
        raise UsageError(f"`{path}` exists already", hint="give a folder that is empty or new") from err
    return path


def _llama_cpp(run: _Made) -> str:
    steps = run.output_tokens - 1
    generation_ms = steps * run.tpot_s * 1e3
    kind = "Q4_0" if "70b" in run.folder else "F16"
    bits = run.weights_gib * 2**30 * 8 / run.parameters
    return f"""\
llm_load_print_meta: model ftype      = {kind}
llm_load_print_meta: model params     = {run.parameters / 1e9:.2f} B
llm_load_print_meta: model size       = {run.weights_gib:.2f} GiB ({bits:.2f} BPW)
llama_print_timings:        load time = {3100.0:9.2f} ms
llama_print_timings:      sample time = {steps * 0.04:9.2f} ms / {run.output_tokens:5d} runs   (    0.04 ms per token, 25000.00 tokens per second)
llama_print_timings: prompt eval time = {run.ttft_s * 1e3:9.2f} ms / {run.prompt_tokens:5d} tokens ({run.ttft_s * 1e3 / run.prompt_tokens:8.2f} ms per token, {run.prompt_tokens / run.ttft_s:8.2f} tokens per second)
llama_print_timings:        eval time = {generation_ms:9.2f} ms / {steps:5d} runs   ({run.tpot_s * 1e3:8.2f} ms per token, {1 / run.tpot_s:8.2f} tokens per second)
llama_print_timings:       total time = {run.ttft_s * 1e3 + generation_ms + 8:9.2f} ms / {run.prompt_tokens + steps:5d} tokens
"""  # noqa: E501 - the layout of the tool


def _llama_server(run: _Made) -> str:
    generation_ms = run.output_tokens * run.tpot_s * 1e3
    prompt_ms = run.ttft_s * 1e3
    stamp = f'tid="140" timestamp={int(run.window[1].timestamp())} id_slot=0 id_task=0'
    return f"""\
llm_load_print_meta: model ftype      = F16
llm_load_print_meta: model params     = {run.parameters / 1e9:.2f} B
llm_load_print_meta: model size       = {run.weights_gib:.2f} GiB (16.00 BPW)
INFO [           print_timings] prompt eval time     = {prompt_ms:10.2f} ms / {run.prompt_tokens:5d} tokens ({prompt_ms / run.prompt_tokens:8.2f} ms per token, {run.prompt_tokens / run.ttft_s:8.2f} tokens per second) | {stamp} t_prompt_processing={prompt_ms:.3f} n_prompt_tokens_processed={run.prompt_tokens}
INFO [           print_timings] generation eval time = {generation_ms:10.2f} ms / {run.output_tokens:5d} runs   ({run.tpot_s * 1e3:8.2f} ms per token, {1 / run.tpot_s:8.2f} tokens per second) | {stamp} t_token_generation={generation_ms:.3f} n_decoded={run.output_tokens}
INFO [           print_timings]           total time = {prompt_ms + generation_ms:10.2f} ms | {stamp} t_total={prompt_ms + generation_ms:.3f}
"""  # noqa: E501 - the layout of the tool


def _vllm_json(run: _Made) -> str:
    seconds = run.inference_s
    tokens = run.batch * run.output_tokens
    value = {
        "date": run.window[1].strftime("%Y%m%d-%H%M%S"),
        "backend": "vllm",
        "model_id": "example/" + run.folder.split("/")[0],
        "num_prompts": run.batch,
        "request_rate": "inf",
        "max_concurrency": run.batch,
        "duration": round(seconds, 4),
        "completed": run.batch,
        "total_input_tokens": run.batch * run.prompt_tokens,
        "total_output_tokens": tokens,
        "request_throughput": run.batch / seconds,
        "request_goodput:": None,
        "output_throughput": tokens / seconds,
        "total_token_throughput": (tokens + run.batch * run.prompt_tokens) / seconds,
        "mean_ttft_ms": run.ttft_s * 1e3,
        "median_ttft_ms": run.ttft_s * 1e3,
        "p99_ttft_ms": run.ttft_s * 1.2e3,
        "mean_tpot_ms": run.tpot_s * 1e3,
        "median_tpot_ms": run.tpot_s * 1e3,
        "p99_tpot_ms": run.tpot_s * 1.1e3,
        "mean_itl_ms": run.tpot_s * 1e3,
    }
    return json.dumps(value) + "\n"


def _vllm_text(run: _Made) -> str:
    seconds = run.inference_s
    tokens = run.batch * run.output_tokens
    rows = (
        ("Successful requests:", f"{run.batch}"),
        ("Benchmark duration (s):", f"{seconds:.2f}"),
        ("Total input tokens:", f"{run.batch * run.prompt_tokens}"),
        ("Total generated tokens:", f"{tokens}"),
        ("Request throughput (req/s):", f"{run.batch / seconds:.2f}"),
        ("Output token throughput (tok/s):", f"{tokens / seconds:.2f}"),
        ("Total Token throughput (tok/s):", f"{(tokens + run.batch * run.prompt_tokens) / seconds:.2f}"),
        ("Mean TTFT (ms):", f"{run.ttft_s * 1e3:.2f}"),
        ("Mean TPOT (ms):", f"{run.tpot_s * 1e3:.2f}"),
        ("Mean ITL (ms):", f"{run.tpot_s * 1e3:.2f}"),
    )
    body = "\n".join(f"{label:<40} {value:<10}" for label, value in rows)
    return f"============ Serving Benchmark Result ============\n{body}\n{'=' * 50}\n"


def _trtllm(run: _Made) -> str:
    seconds = run.inference_s
    tokens = run.batch * run.output_tokens
    return f"""\
===========================================================
= PERFORMANCE OVERVIEW
===========================================================
Number of requests:                                 {run.batch}
Average Input Length (tokens):                      {run.prompt_tokens:.4f}
Average Output Length (tokens):                     {run.output_tokens:.4f}
Request Throughput (req/sec):                       {run.batch / seconds:.4f}
Total Output Throughput (tokens/sec):               {tokens / seconds:.4f}
Total Latency (ms):                                 {seconds * 1e3:.4f}
Average time-to-first-token [TTFT] (ms):            {run.ttft_s * 1e3:.4f}
Average time-per-output-token [TPOT] (ms):          {run.tpot_s * 1e3:.4f}
"""


def _stamp(when: datetime) -> str:
    return when.strftime("%Y/%m/%d %H:%M:%S.") + f"{when.microsecond // 1000:03d}"


def _smi_units(run: _Made) -> str:
    rows = [
        f"{_stamp(t)}, 0, {_GPU}, {run.power(t):.2f} W, {run.memory_mib} MiB" for t in run.times(_STEP_S / 2)
    ]
    return "\n".join(["timestamp, index, name, power.draw [W], memory.used [MiB]", *rows]) + "\n"


def _smi_plain(run: _Made) -> str:
    rows = [f"{_stamp(t)},0,{_GPU},{run.power(t):.2f},{run.memory_mib}" for t in run.times(_STEP_S)]
    return "\n".join(["timestamp,index,name,power.draw [W],memory.used [MiB]", *rows]) + "\n"


def _smi_thermal(run: _Made) -> str:
    rows = []
    for t in run.times(1.0):
        hot = run.temperature(t) >= 83.0
        rows.append(f"{_stamp(t)}, 0, {run.temperature(t):.0f}, {'Active' if hot else 'Not Active'}")
    head = "timestamp, index, temperature.gpu, clocks_event_reasons.sw_thermal_slowdown"
    return "\n".join([head, *rows]) + "\n"


def _hwinfo(run: _Made) -> str:
    head = (
        'Date,Time,"GPU Temperature [°C]","GPU Hot Spot Temperature [°C]","GPU Thermal Throttling [Yes/No]",'
    )
    rows = [
        f"{t.day}.{t.month}.{t.year},{t.strftime('%H:%M:%S')}.000,{run.temperature(t):.1f},"
        f"{run.temperature(t) + 9.5:.1f},No,"
        for t in run.times(1.0)
    ]
    return "\n".join([head, *rows]) + "\n"
