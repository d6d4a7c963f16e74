"""llama-bench in all five outputs: Markdown, CSV, JSON, JSON lines and SQL."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from engine.measure.run_folder.formats import Format
from engine.measure.run_folder.jsons import load, load_lines, looks_like_json
from engine.measure.run_folder.numbers import finite, number, split_number
from engine.measure.run_folder.record import Note, Read, Result
from engine.measure.run_folder.text import Source, Unreadable, lines
from engine.spec.run_folder import RunFolderSettings
from engine.units import counted

_TEST: Final = re.compile(r"^(?:pp ?(?P<pp>[0-9]+))?\+?(?:tg ?(?P<tg>[0-9]+))?(?: ?@ ?d(?P<depth>[0-9]+))?$")
_INSERT: Final = re.compile(
    r"INSERT INTO \w+ \((?P<names>[^)]*)\) VALUES \((?P<values>.*)\);?\s*$", re.IGNORECASE
)
_TABLE: Final = re.compile(
    r"^[ \t]*\|[ \t]*model[ \t]*\|.*\|[ \t]*test[ \t]*\|[ \t]*t/s[ \t]*\|", re.MULTILINE
)
# `llama 13B Q4_0`, `qwen2 7B Q4_K - Medium`, `gpt-oss 20B MXFP4 MoE`: architecture, size, number format.
_TYPED: Final = re.compile(r"^(?P<model>.*? \??[0-9.x]*[BMTK]) (?:all |mostly )?(?P<format>\S.*)$")
_SCALE: Final = {"B": 1e9, "M": 1e6, "K": 1e3, "GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10}


def sniff(source: Source) -> bool:
    """Whether columns of llama-bench stand in the first lines."""
    head = source.head[:4096]
    first = source.first_lines(1)
    table = bool(_TABLE.search(head))
    columns = bool(first) and {"n_prompt", "n_gen", "avg_ts"} <= set(re.split(r"[\",]+", first[0]))
    return (
        table
        or columns
        or looks_like_json(source, "n_prompt", "n_gen", "avg_ts")
        or "INSERT INTO llama_bench" in head
    )


def read(source: Source, settings: RunFolderSettings) -> Read:
    """One result per test: prompt processing, generation, or both."""
    rows, dropped = _rows(source)
    if not rows:
        raise Unreadable("no-rows", "columns of llama-bench without a row")
    results = [result for row in rows if (result := _result(row)) is not None]
    texts = {k: v for k, v in (("hardware", rows[0].get("gpu_info") or ""),) if v}
    notes = [Note("row-cut", f"{counted(dropped, 'row')} could not be read")] if dropped else []
    return Read(
        results=tuple(results), texts=texts, rows_read=len(results),
        rows_dropped=dropped + len(rows) - len(results), notes=tuple(notes),
    )  # fmt: skip


def _rows(source: Source) -> tuple[list[Mapping[str, Any]], int]:
    head = source.head.lstrip("\ufeff \r\n")
    if head.startswith("["):
        value = load(source)
        listed = value if isinstance(value, list) else []
        good: list[Mapping[str, Any]] = [row for row in listed if isinstance(row, dict)]
        return good, 0
    if head.startswith("{"):
        found = [row for _, row in load_lines(source)]
        return [row for row in found if row is not None], sum(row is None for row in found)
    if "INSERT INTO" in source.head[:8192]:
        return list(_sql(source)), 0
    if _TABLE.search(source.head[:4096]):
        return list(_markdown(source)), 0
    return _csv(source)


def _csv(source: Source) -> tuple[list[Mapping[str, Any]], int]:
    reader = csv.reader(line for _, line in lines(source))
    names: list[str] = []
    rows: list[Mapping[str, Any]] = []
    dropped = 0
    for cells in reader:
        if not names:
            names = [cell.strip() for cell in cells]
        elif cells == names or not cells:
            continue
        elif len(cells) == len(names):
            rows.append(dict(zip(names, cells, strict=True)))
        elif (row := _from_both_ends(names, cells)) is not None:
            rows.append(row)
        else:
            dropped += 1
    return rows, dropped


def _from_both_ends(names: list[str], cells: list[str]) -> dict[str, str] | None:
    """A row whose middle has other columns than the header: the model stands at its start, the result at its
    end, and names are trusted only when the time of the test lands where a time must be."""
    short = min(len(names), len(cells))
    head = names.index("model_n_params") + 1 if "model_n_params" in names else 0
    tail = len(names) - names.index("n_prompt") if "n_prompt" in names else 0
    if not head or not tail or head + tail > short:
        return None
    row = dict(zip(names[:head] + names[-tail:], cells[:head] + cells[-tail:], strict=True))
    return row if re.match(r"\d{4}-\d\d-\d\dT", row.get("test_time", "")) else None


def _sql(source: Source) -> Iterator[Mapping[str, Any]]:
    for _, line in lines(source):
        if found := _INSERT.search(line):
            names = [name.strip() for name in found.group("names").split(",")]
            values = next(csv.reader([found.group("values")], quotechar="'", skipinitialspace=True), [])
            if len(names) == len(values):
                yield dict(zip(names, values, strict=True))


def _markdown(source: Source) -> Iterator[Mapping[str, Any]]:
    names: list[str] = []
    for _, line in lines(source):
        if not line.lstrip().startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "model" in cells and "test" in cells:
            names = cells
        elif names and len(cells) == len(names) and not set(cells[0]) <= set("-: "):
            yield _from_markdown(dict(zip(names, cells, strict=True)))


def _from_markdown(row: Mapping[str, str]) -> Mapping[str, Any]:
    """A Markdown row under the names of the CSV."""
    found: dict[str, Any] = {"model_type": row.get("model"), "backends": row.get("backend")}
    if test := _TEST.match(row.get("test", "")):
        found["n_prompt"], found["n_gen"] = int(test.group("pp") or 0), int(test.group("tg") or 0)
        found["n_depth"] = int(test.group("depth") or 0)
    mean, _, spread = row.get("t/s", "").partition("±")
    found["avg_ts"], found["stddev_ts"] = number(mean), number(spread)
    for key, column in (("model_size", "size"), ("model_n_params", "params")):
        value, unit = split_number(row.get(column, ""))
        if value is not None:
            found[key] = value * _SCALE.get(unit, 1.0)
    return found


def _result(row: Mapping[str, Any]) -> Result | None:
    rate = finite(row.get("avg_ts"))
    prompt, output = int(finite(row.get("n_prompt")) or 0), int(finite(row.get("n_gen")) or 0)
    if rate is None or rate <= 0 or prompt + output == 0:
        return None
    nanoseconds = finite(row.get("avg_ns"))
    seconds = nanoseconds / 1e9 if nanoseconds else (prompt + output) / rate
    how = {} if nanoseconds else {"time_s": "tokens / (tokens per second)"}
    depth = int(finite(row.get("n_depth")) or 0)
    settings: dict[str, int | str] = {}
    settings |= _model_of(row)
    label = "+".join([*([f"pp{prompt}"] if prompt else []), *([f"tg{output}"] if output else [])])
    label += f" @ d{depth}" if depth else ""
    if prompt and not output:
        values = {**_of_model(row), "prompt_tokens_per_s": rate, "ttft_s": seconds, "time_s": seconds}
        how |= {"ttft_s": "time of the prompt test"}
        return Result(values, how, {**settings, "prompt_tokens": prompt}, label, "prefill")
    # A depth is a context already in the cache: the test generates behind it.
    if depth or prompt:
        settings["prompt_tokens"] = depth + prompt
    settings["output_tokens"] = output
    values = {
        **_of_model(row),
        "throughput_tokens_per_s": rate,
        "output_tokens": float(output),
        "time_s": seconds,
    }
    if not prompt:
        values |= {"tpot_s": 1 / rate, "generation_s": seconds, "output_tokens_per_s": rate}
        how |= {"tpot_s": "1 / tokens per second", "generation_s": "time of the generation test"}
        return Result(values, how, settings, label, "decode")
    values["total_tokens_per_s"] = values.pop("throughput_tokens_per_s")
    how["total_tokens_per_s"] = "prompt and generated tokens together"
    return Result(values, how, settings, label)


def _model_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Name of the model and its number format; one cell holds both."""
    text = str(row.get("model_type") or row.get("model_filename") or "").replace("\\", "/").rsplit("/", 1)[-1]
    if typed := _TYPED.match(text):
        return {"model": typed.group("model"), "quantization": typed.group("format")}
    return {"model": text} if text else {}


def _of_model(row: Mapping[str, Any]) -> dict[str, float]:
    """Size and parameters of the row's model."""
    keys = {"parameters": "model_n_params", "weights_bytes": "model_size"}
    return {metric: value for metric, key in keys.items() if (value := finite(row.get(key)))}


FORMATS = (Format("llama-bench", "llama-bench table, CSV, JSON or SQL", sniff, read),)
