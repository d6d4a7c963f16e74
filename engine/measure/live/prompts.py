"""Prompts of a wanted length, each different from the first word on, so that no cache can answer them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure.local_tokenizer import synthetic_words

if TYPE_CHECKING:
    from engine.spec.live import Prompts

__all__ = ["Count", "PromptMaker", "file_prompts", "load_tokenizer"]

Count = Callable[[str], int]
"""Tokens of a text, without special tokens."""
_TRIES: Final = 24
_LARGEST_FILE: Final = 64 * 1024 * 1024


@dataclass
class PromptMaker:
    """Makes prompts; with a count they have exactly the wanted number of tokens."""

    count: Count | None
    seed: int
    overhead: int = 0
    """Tokens that the server adds to a text: begin token, chat template."""
    tokens_per_word: float = 1.5
    """Used without a count; learnt from the server where it tells prompt tokens."""
    lines: Sequence[str] = ()
    """Prompts of a file, used in order and over again."""
    inexact: int = 0
    """Prompts that missed their length by a token or more although there was a count."""
    _prefixes: dict[tuple[str, int], str] = field(default_factory=dict)

    def text(self, number: int, tokens: int, *, shared: int = 0, prefix: str = "") -> str:
        """Prompt `number`; its first `shared` tokens are those of every prompt with this `prefix`."""
        if self.lines:
            return self.lines[number % len(self.lines)]
        tokens = max(1, tokens - self.overhead)
        shared = min(shared, tokens - 1)
        head = ""
        if shared > 0:
            key = (prefix, shared)
            if key not in self._prefixes:
                self._prefixes[key] = self._exact(shared, self._words(f"shared {prefix}"), "")
            head = self._prefixes[key] + " "
        return self._exact(tokens, self._words(number), head)

    def of_words(self, number: int, count: int) -> str:
        """So many made-up words, whatever tokens they are."""
        words = self._words(number)
        return " ".join(next(words) for _ in range(count))

    def ids(self, number: int, tokens: int, vocab_size: int, *, shared: int = 0) -> list[int]:
        """The same as token ids, for endpoints that take them: exact by construction."""
        tokens = max(1, tokens - self.overhead)
        common = random.Random(f"{self.seed} shared")  # noqa: S311
        own = random.Random(f"{self.seed} {number}")  # noqa: S311
        # Ordinary entries: the first ones are often special, the last ones often unused.
        low, high = min(1000, vocab_size // 4), max(vocab_size // 4 + 1, vocab_size - vocab_size // 8)
        head = [common.randrange(low, high) for _ in range(min(shared, tokens))]
        return head + [own.randrange(low, high) for _ in range(tokens - len(head))]

    def _words(self, about: object) -> Iterator[str]:
        return synthetic_words(random.Random(f"{self.seed} {about}").getrandbits(63))  # noqa: S311

    def _exact(self, tokens: int, words: Iterator[str], head: str) -> str:
        chosen = [next(words) for _ in range(max(1, round(tokens / self.tokens_per_word)))]
        if self.count is None:
            if head:
                extra = round(tokens / self.tokens_per_word) - len(head.split())
                chosen = chosen[: max(1, extra)]
            return head + " ".join(chosen)
        text = head + " ".join(chosen)
        for _ in range(_TRIES):
            off = tokens - self.count(text)
            if off == 0:
                return text
            chosen = _adjusted(chosen, off, words)
            text = head + " ".join(chosen)
        return self._finished(text, tokens)

    def _finished(self, text: str, tokens: int) -> str:
        """The last tokens by single letters, which are a token each behind a blank in most vocabularies."""
        count = self.count
        if count is None:
            return text
        while count(text) > tokens and " " in text:
            text = text.rsplit(" ", 1)[0]
        for letter in "abcdefghijklmnopqrstuvwxyz" * 4:
            missing = tokens - count(text)
            if missing <= 0:
                break
            longer = f"{text} {letter}"
            text = longer if count(longer) <= tokens else text
        self.inexact += count(text) != tokens
        return text


def _adjusted(words: list[str], off: int, more: Iterator[str]) -> list[str]:
    """Words with about `off` tokens more or fewer; a word has two to three."""
    if off >= 3:
        return words + [next(more) for _ in range(max(1, off // 3))]
    if off > 0:
        return [*words, next(more)[: 1 + off]]
    if off <= -3 and len(words) > 1:
        return words[: max(1, len(words) - max(1, -off // 3))]
    last = words[-1]
    return [*words[:-1], last[:-1]] if len(last) > 1 else words[:-1] or ["a"]


def load_tokenizer(name: str, folder: Path) -> Count:
    """A count from a tokenizer in a folder or on the hub; raises `EnvironmentMissing` without one."""
    path = folder / name
    try:
        if (path / "tokenizer.json").is_file():
            from tokenizers import Tokenizer

            fast = Tokenizer.from_file(str(path / "tokenizer.json"))
            return lambda text: len(fast.encode(text, add_special_tokens=False).ids)
        from transformers import AutoTokenizer

        loaded: Any = AutoTokenizer.from_pretrained(str(path) if path.is_dir() else name)
    except ModuleNotFoundError as err:
        raise EnvironmentMissing(
            f"`tokenizer` needs `{err.name}`, which is not installed",
            hint='pip install "llm-experiment-engine[endpoint]"',
        ) from err
    except (OSError, ValueError) as err:
        raise EnvironmentMissing(
            f"there is no tokenizer `{name}`: {str(err).splitlines()[0][:200]}",
            hint="name a folder with tokenizer.json, or a hub name (HF_TOKEN for gated ones)",
        ) from err
    return lambda text: len(loaded(text, add_special_tokens=False)["input_ids"])


def file_prompts(prompts: Prompts, folder: Path) -> list[str]:
    """Prompts of a file: JSON lines with `prompt`, or plain lines; raises `MeasurementError`."""
    if prompts.file is None:
        return []
    path = folder / prompts.file
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise MeasurementError(f"prompt file `{path.name}` is larger than 64 MiB")
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as err:
        raise MeasurementError(f"prompt file `{prompts.file}` cannot be read: {err}") from err
    found = [_prompt(line, number, path.name) for number, line in enumerate(lines, start=1)]
    if not found:
        raise MeasurementError(f"prompt file `{path.name}` has no prompts")
    return found


def _prompt(line: str, number: int, name: str) -> str:
    if not line.startswith("{"):
        return line
    try:
        row = json.loads(line)
    except ValueError as err:
        raise MeasurementError(f"line {number} of `{name}` is not JSON: {err}") from err
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise MeasurementError(f"line {number} of `{name}` has no text under `prompt`")
    return str(row["prompt"])
