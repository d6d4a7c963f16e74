"""llama.cpp timing blocks of every generation, the server's included, and its lines about the model."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source, lines
from engine.spec.run_folder import RunFolderSettings

_MARK: Final = re.compile(
    r"(?:llama_print_timings:|llama_perf_context_print:|common_perf_print:|print_timings?\b|"
    r"prompt eval time\s*=)"
)
_TIMING: Final = re.compile(
    r"(?P<what>load time|sampl(?:e|ing) time|prompt eval time|generation eval time|eval time|total time)"
    r"\s*=\s*"
    r"(?P<ms>[0-9.]+|inf|nan) ms(?:\s*/\s*(?P<count>[0-9]+) (?P<noun>runs|tokens|run|token))?"
)
_PAIR: Final = re.compile(r"\b([a-z_]+)=([0-9.]+)\b")
_DRAFT: Final = re.compile(r"draft acceptance rate = ([0-9.]+)")
_PARAMETERS: Final = re.compile(r"model params\s*=\s*([0-9.]+) ([KMBT])\b")
_SIZE: Final = re.compile(r"(?:model size|print_info: file size)\s*=\s*([0-9.]+) ([KMG]i?B)")
_FTYPE: Final = re.compile(r"(?:model ftype|file type)\s*=\s*(\S.*?)\s*$")
_NAME: Final = re.compile(r"general\.name\s*(?:str\s*)?=\s*(\S.*?)\s*$")
_DEVICE: Final = re.compile(r"Device [0-9]+: (.+?), compute capability")
_BUFFER: Final = re.compile(r"(?P<kind>KV|compute|output|RS)?\s*buffer size\s*=\s*(?P<mib>[0-9.]+) MiB")
_BATCH: Final = re.compile(r"\bn_seq_max\s*=\s*([0-9]+)")
_SCALE: Final = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}


@dataclass
class _Block:
    """Times of one request in ms and their counts, as printed."""

    line: int
    times_ms: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    nouns: dict[str, str] = field(default_factory=dict)
    pairs: dict[str, float] = field(default_factory=dict)


def sniff(source: Source) -> bool:
    """Whether a timing line stands near the start or the end."""
    return bool(_MARK.search(source.sample)) and bool(_TIMING.search(source.sample))


def read(source: Source, settings: RunFolderSettings) -> Read:
    """Every generation in the file, and what the log says about the model."""
    blocks: list[_Block] = []
    facts: dict[str, float] = {}
    texts: dict[str, str] = {}
    buffers: dict[str, float] = {}
    draft: float | None = None
    for number, line in lines(source):
        if found := _TIMING.search(line):
            _add(blocks, number, found, line)
        elif found := _DRAFT.search(line):
            draft = float(found.group(1))
        elif not blocks:
            _setup(line, facts, texts, buffers)
    results, notes = _results(blocks)
    if buffers:
        facts["memory_used_bytes"] = sum(buffers.values())
    if draft is not None:
        notes.append(
            Note("speculative", f"speculative decoding: {draft:.1%} of drafted tokens accepted", "note")
        )
    how = {
        "memory_used_bytes": f"sum of {' + '.join(f'{n} {b / 2**20:.2f} MiB' for n, b in buffers.items())}"
    }
    return Read(
        results=tuple(results),
        facts=facts,
        texts=texts,
        how=how if buffers else {},
        rows_read=sum(len(block.times_ms) for block in blocks),
        notes=tuple(notes),
    )


def _setup(line: str, facts: dict[str, float], texts: dict[str, str], buffers: dict[str, float]) -> None:
    """What a line before the timings says about model, memory and device."""
    if found := _PARAMETERS.search(line):
        facts["parameters"] = float(found.group(1)) * _SCALE[found.group(2)]
    elif found := _SIZE.search(line):
        facts["weights_bytes"] = float(found.group(1)) * _SCALE.get(found.group(2), 1e9)
    elif found := _FTYPE.search(line):
        texts["quantization"] = found.group(1)
    elif found := _NAME.search(line):
        texts["model"] = found.group(1)
    elif found := _DEVICE.search(line):
        texts["hardware"] = found.group(1)
    elif found := _BUFFER.search(line):
        kind = {"KV": "KV cache", None: "weights"}.get(found.group("kind"), f"{found.group('kind')} buffer")
        buffers[kind] = buffers.get(kind, 0.0) + float(found.group("mib")) * 2**20


def _add(blocks: list[_Block], number: int, found: re.Match[str], line: str) -> None:
    what = found.group("what").replace("generation ", "").replace("sampling", "sample").removesuffix(" time")
    if not blocks or what in blocks[-1].times_ms:
        blocks.append(_Block(number))
    block = blocks[-1]
    try:
        block.times_ms[what] = float(found.group("ms"))
    except ValueError:
        block.times_ms[what] = float("nan")
    if found.group("count"):
        block.counts[what] = int(found.group("count"))
        block.nouns[what] = found.group("noun").removesuffix("s")
    block.pairs |= {key: float(value) for key, value in _PAIR.findall(line)}


def _results(blocks: list[_Block]) -> tuple[list[Result], list[Note]]:
    """One result for each block that generated; prompt-only blocks belong to a perplexity pass."""
    found, notes = [], []
    for block in blocks:
        seconds = _generation_s(block)
        if seconds is not None and seconds > 0:
            found.append((block, _result(block, seconds)))
        elif block.times_ms.get("prompt eval", 0.0) > 0:
            notes.append(
                Note("prompt-only", "a timing block without generation was left out", "note", block.line)
            )
    if not found and blocks:
        notes.append(Note("no-generation", "timings without any generated token", "warning", blocks[0].line))
    if len(found) > 1:
        return [replace(result, label=f"request {i}") for i, (_, result) in enumerate(found)], notes
    return [result for _, result in found], notes


def _generation_s(block: _Block) -> float | None:
    exact = block.pairs.get("t_token_generation")
    value = exact if exact is not None else block.times_ms.get("eval")
    return None if value is None or value != value else value / 1e3


def _result(block: _Block, generation_s: float) -> Result:
    times, pairs = block.times_ms, block.pairs
    prompt_ms = pairs.get("t_prompt_processing", times.get("prompt eval"))
    prompt = int(pairs.get("n_prompt_tokens_processed", block.counts.get("prompt eval", 0)))
    runs = block.nouns.get("eval") == "run" and "n_decoded" not in pairs  # the server counts tokens
    steps = int(pairs.get("n_decoded", block.counts.get("eval", 0)))
    # The first token comes out of the prompt pass, so `runs` counts one token less than was generated.
    tokens = steps + 1 if runs else steps
    values: dict[str, float] = {"generation_s": generation_s, "output_tokens": float(tokens)}
    how = {"output_tokens": "eval runs + 1: the first token comes out of the prompt pass"} if runs else {}
    if steps:
        values |= {"throughput_tokens_per_s": steps / generation_s, "tpot_s": generation_s / steps}
        how |= {"throughput_tokens_per_s": "eval steps / eval time", "tpot_s": "eval time / eval steps"}
    if prompt_ms:
        values["ttft_s"] = prompt_ms / 1e3
        how["ttft_s"] = "prompt eval time; model load not included"
        if prompt:
            values["prompt_tokens_per_s"] = prompt / (prompt_ms / 1e3)
            how["prompt_tokens_per_s"] = "prompt tokens / prompt eval time"
        values["e2e_s"] = prompt_ms / 1e3 + generation_s
        how["e2e_s"] = "prompt eval time + eval time; sampling and load not included"
        values["output_tokens_per_s"] = tokens / values["e2e_s"]
        how["output_tokens_per_s"] = "output tokens / (prompt eval time + eval time)"
    if times.get("load", 0.0) > 0:
        values["load_s"] = times["load"] / 1e3
    settings: dict[str, int | str] = {"output_tokens": tokens}
    if prompt:
        settings["prompt_tokens"] = prompt
    window = None
    if "timestamp" in pairs and prompt_ms is not None:
        end = pairs["timestamp"]  # written when the request ends, in steps of 1 s
        window = (end - values.get("e2e_s", generation_s), end)
    return Result(values, how, settings, window=window, zone="utc", seconds=values.get("e2e_s"))


FORMATS = (Format("llama.cpp timings", "llama.cpp timing lines", sniff, read),)
