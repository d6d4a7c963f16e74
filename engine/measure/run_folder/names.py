"""What folder names say: model and size, batch, number format, lengths, repeats."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from engine.spec.run_folder import FolderModel

# Family names that make a folder a model even without a size, such as `mistral-large-instruct`.
_FAMILIES: Final = (
    "llama", "mistral", "mixtral", "qwen", "phi", "gemma", "falcon", "opt", "gpt", "deepseek", "glm", "kimi",
    "bitnet", "minimax", "nemotron", "granite", "olmo", "yi", "vicuna", "alpaca", "bloom", "command", "grok",
    "smollm", "tinyllama", "stablelm", "internlm", "baichuan", "starcoder", "codellama", "pythia",
)  # fmt: skip
# `8x7b` is no size: experts share the attention, so the product overstates it; `a3b` counts active ones.
_SIZE: Final = re.compile(r"(?<![0-9.xX])(?<![0-9][.])([0-9]+(?:[.][0-9]+)?)[ _-]?([bBmMtT])(?![a-zA-Z0-9])")
_EXPERTS: Final = re.compile(r"[0-9]+x[0-9.]+b", re.IGNORECASE)
_ACTIVE: Final = re.compile(r"(?<![a-zA-Z])a[0-9.]+b(?![a-zA-Z0-9])", re.IGNORECASE)
_TOOLS: Final = re.compile(r"llama[-_. ]?(cpp|bench|server|cli)|ollama|phi[-_. ]?genai|llamafile")
_GENERATION: Final = re.compile(r"(?<=[a-zA-Z])[-_ ]?v?[0-9]+\.[0-9]+(?=[-_ ])")
_FORMATS: Final = re.compile(
    r"(?<![a-zA-Z0-9])(fp32|fp16|bf16|fp8|fp4|nvfp4|mxfp4|int8|int4|f16|f32|"
    r"w[0-9]{1,2}a[0-9]{1,2}(?:-g[0-9]+)?|i?q[1-8](?:_[0-9k](?:_[sml])?)?(?:_[a-z]{1,3})?|"
    r"awq|gptq|[48]bit)(?![a-zA-Z0-9])",
    re.IGNORECASE,
)
_COUNTS: Final = {
    "batch_size": r"batch[-_ ]?(?:size)?|bs",
    "prompt_tokens": r"prompt[-_ ]?(?:len|length|tokens|toks)?|isl|pp|input[-_ ]?(?:len|tokens)?",
    "output_tokens": r"output[-_ ]?(?:len|tokens)|gen[-_ ]?(?:len|tokens|toks)?|osl|tg",
    "concurrency": r"concurrency|conc",
    "tensor": r"tp",
    "repeat": r"run|rep|repeat|iter|iteration|trial|attempt",
}
_LEVELS: Final = {
    name: re.compile(rf"(?<![a-zA-Z0-9])(?:{words})[-_=]?([0-9]{{1,7}})(?![a-zA-Z0-9])", re.IGNORECASE)
    for name, words in _COUNTS.items()
}
_SHORT_BATCH: Final = re.compile(r"b[-_]?([0-9]{1,7})", re.IGNORECASE)
_SHORT_REPEAT: Final = re.compile(r"r?([0-9]{1,4})", re.IGNORECASE)

# Folders named by when a run was made are repeats: 2026-03-04, 20260304_101500, 2026-03-04T10-15-00.
_DATE: Final = re.compile(
    r"(19|20)[0-9]{2}[-_.]?[0-9]{2}[-_.]?[0-9]{2}([-_T ]?[0-9]{2}[-_.:]?[0-9]{2}([-_.:]?[0-9]{2})?)?"
)


@dataclass(frozen=True)
class Place:
    """What the folders of a run say about it."""

    model: str | None = None
    """Name of the model's folder."""
    model_size: float | None = None
    """Parameters that the name states; None when it states none."""
    known: bool = False
    """Whether the model was recognised: by a size, by its family, or by the settings."""
    catalog: str | None = None
    """Catalogue name that the settings give the folder."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """hardware, quantization, label."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """batch_size, prompt_tokens, output_tokens, concurrency, tensor, repeat."""

    @property
    def matched(self) -> bool:
        """Whether any folder of the run said something."""
        return bool(self.known or self.counts or self.texts)


def model_size(name: str) -> float | None:
    """Parameters that a name states; a version such as the 3.1 of llama-3.1-8b is never the size."""
    if _EXPERTS.search(name):
        return None
    rest = _ACTIVE.sub(" ", name)
    sizes = [(float(digits), unit.lower()) for digits, unit in _SIZE.findall(_GENERATION.sub("-", rest))]
    if not sizes:
        return None
    value, unit = sizes[0]
    return value * {"m": 1e6, "b": 1e9, "t": 1e12}[unit]


def quantization(name: str) -> str | None:
    """The number format that a name states, in lower case."""
    found = _FORMATS.search(name)
    return found.group(1).lower() if found else None


def is_model(name: str) -> bool:
    """Whether a name reads like a model's; llama.cpp and its kin are tools."""
    plain = _TOOLS.sub("", name.lower())
    return model_size(name) is not None or bool(_EXPERTS.search(name)) or any(f in plain for f in _FAMILIES)


def place_of(
    parts: Sequence[str],
    *,
    patterns: Iterable[str] = (),
    models: Mapping[str, FolderModel] | None = None,
    devices: Mapping[str, str] | None = None,
) -> Place:
    """What the folders from the root to a run say, outermost first; inner folders win.

    `devices` maps canonical device names and aliases to catalogue names.
    """
    place = Place()
    compiled = [re.compile(pattern) for pattern in patterns]
    for part in parts:
        place = _with_part(place, part, compiled, models or {}, devices or {})
    rest = [part for part in parts if not _only_levels(part, devices or {}) and not _any(compiled, part)]
    if place.model is None and rest:
        place = replace(place, model=rest[-1])  # unknown, but it must have a name to be reported under
    # What neither names the model nor a level tells configurations apart: `optimised`, `gpu_a`, a root.
    others = [part for part in rest if place.model not in (part, _without_levels(part))]
    if others and "label" not in place.texts:
        place = replace(place, texts={**place.texts, "label": "/".join(others)})
    return place


def _any(patterns: Sequence[re.Pattern[str]], part: str) -> bool:
    return any(pattern.search(part) for pattern in patterns)


def _with_part(
    place: Place,
    part: str,
    patterns: Sequence[re.Pattern[str]],
    models: Mapping[str, FolderModel],
    devices: Mapping[str, str],
) -> Place:
    if part in models:
        own = models[part]
        size = own.parameters or model_size(part)
        place = replace(place, model=part, model_size=size, known=True, catalog=own.name)
    for pattern in patterns:
        if found := pattern.search(part):
            return _with_groups(place, found.groupdict())
    counts, texts = dict(place.counts), dict(place.texts)
    counts |= {name: int(found.group(1)) for name, level in _LEVELS.items() if (found := level.search(part))}
    if short := _SHORT_BATCH.fullmatch(part):
        counts["batch_size"] = int(short.group(1))
    if place.counts and (number := _SHORT_REPEAT.fullmatch(part)):
        counts["repeat"] = int(number.group(1))
    if (form := quantization(part)) is not None:
        texts["quantization"] = form
    if device := devices.get(canonical(part)):
        texts["hardware"] = device
    place = replace(place, counts=counts, texts=texts)
    if part not in models and is_model(part) and not _only_levels(part, devices):
        place = replace(place, model=_without_levels(part), model_size=model_size(part), known=True)
    return place


def _without_levels(part: str) -> str:
    """`llama_7b_fp16_batch4` is the model `llama_7b`."""
    rest = part
    for level in (*_LEVELS.values(), _FORMATS):
        rest = level.sub("", rest)
    return re.sub(r"([-_. ])[-_. ]+", r"\1", rest).strip("-_. ") or part


def _with_groups(place: Place, groups: Mapping[str, str | None]) -> Place:
    counts, texts = dict(place.counts), dict(place.texts)
    for name, text in groups.items():
        if text is None:
            continue
        if name in _COUNTS:
            if text.isdigit():
                counts[name] = int(text)
        elif name == "model_size":
            place = replace(place, model_size=_stated_size(text) or place.model_size, known=True)
        elif name == "model":
            place = replace(place, model=text, model_size=model_size(text) or place.model_size, known=True)
        else:
            texts[name] = text
    return replace(place, counts=counts, texts=texts)


def _stated_size(text: str) -> float | None:
    try:
        return float(text) * (1e9 if float(text) < 1e5 else 1)
    except ValueError:
        return model_size(text)


def canonical(name: str) -> str:
    """The spelling under which device names compare."""
    return re.sub(r"[\s_]+", "-", name.strip()).lower()


def _only_levels(part: str, devices: Mapping[str, str]) -> bool:
    """Whether nothing but levels stands in a name, such as `batch_4` or `fp16`."""
    if canonical(part) in devices or any(p.fullmatch(part) for p in (_SHORT_BATCH, _SHORT_REPEAT, _DATE)):
        return True
    rest = part
    for level in (*_LEVELS.values(), _FORMATS):
        rest = level.sub("", rest)
    return not re.sub(r"[\W_]+", "", rest)
