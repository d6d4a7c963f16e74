"""A byte-level BPE tokenizer of exactly the wanted size, trained on made-up text and kept in a cache.

Random weights need a tokenizer with as many entries as the model has embedding rows: a server refuses to
start otherwise, and text prompts could not be counted.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from engine.errors import MeasurementError

__all__ = ["cache_folder", "save_tokenizer", "synthetic_words", "trained_tokenizer"]

SPECIALS: Final = ("<|begin|>", "<|end|>", "<|user|>", "<|assistant|>")
_CHAT_TEMPLATE: Final = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_SMALLEST: Final = 300  # 256 bytes, the specials and a few merges
_VERSION: Final = 1


def cache_folder() -> Path:
    """Where trained tokenizers are kept: below `XDG_CACHE_HOME`, else `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llm-experiment-engine" / "tokenizers"


def trained_tokenizer(vocab_size: int, *, cache: Path | None = None) -> Any:
    """A fast tokenizer with exactly `vocab_size` entries and a chat template; trained once, then read."""
    from transformers import PreTrainedTokenizerFast

    folder = (cache or cache_folder()) / f"bpe-{vocab_size}-v{_VERSION}"
    if not (folder / "tokenizer.json").exists():
        save_tokenizer(vocab_size, folder)
    return PreTrainedTokenizerFast.from_pretrained(str(folder))


def save_tokenizer(vocab_size: int, folder: Path) -> None:
    """Train and write a tokenizer; the folder appears whole or not at all."""
    from transformers import PreTrainedTokenizerFast

    begin, end, *_ = SPECIALS
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=_train(vocab_size), bos_token=begin, eos_token=end, pad_token=end
    )
    wrapped.chat_template = _CHAT_TEMPLATE
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        wrapped.save_pretrained(str(draft))
        draft.rename(folder)
    except OSError:
        if not (folder / "tokenizer.json").exists():  # else another process was first, which is as good
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _train(vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if vocab_size < _SMALLEST:
        raise MeasurementError(
            f"a byte-level tokenizer needs at least {_SMALLEST} entries, the model has {vocab_size}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        min_frequency=1,
    )
    tokenizer.train_from_iterator(_text(vocab_size), trainer)
    missing = vocab_size - tokenizer.get_vocab_size()
    if missing:
        tokenizer.add_tokens([f"<|unused{i}|>" for i in range(missing)])
    return tokenizer


def synthetic_words(seed: int) -> Iterator[str]:
    """Endless made-up words, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - repeatable text, not a secret
    while True:
        length = chance.randint(2, 9)
        yield "".join(chance.choice("bcdfghklmnprstvw" if i % 2 else "aeiouy") for i in range(length))


def _text(vocab_size: int) -> Iterator[str]:
    words = synthetic_words(vocab_size)
    for _ in range(max(200, vocab_size // 8)):
        yield " ".join(next(words) for _ in range(16))
