"""Which points do the same work: a prompt of 512 tokens and one of 32,768 are not two ways to do one job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engine.report.records import Records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

Lengths = tuple[int | None, int | None]
"""Prompt and output tokens of each request; None where nobody said."""

_COLUMNS: Final = ("prompt_tokens", "output_tokens")


@dataclass(frozen=True, eq=False)
class Workloads:
    """The lengths that occur, and which of them each row has."""

    lengths: tuple[Lengths, ...]
    """In order of appearance."""
    codes: NDArray[np.int64]
    """Place in `lengths` of each row."""

    def mask(self, place: int) -> Mask:
        """Rows of these lengths."""
        found: Mask = self.codes == place
        return found

    def main(self, qualified: Mask, own: Lengths | None) -> int:
        """The lengths that the answer is about: the spec's own, else those with most rows that qualify."""
        import numpy as np

        if own in self.lengths and self.mask(self.lengths.index(own)).any():
            return self.lengths.index(own)
        return int(np.argmax(np.bincount(self.codes[qualified], minlength=len(self.lengths))))


def workloads_of(rows: Records) -> Workloads:
    """The lengths of rows."""
    import numpy as np

    pairs = np.stack([np.nan_to_num(rows.numbers(name), nan=-1.0) for name in _COLUMNS], axis=1)
    found, first, codes = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    lengths = tuple(
        (None if prompt < 0 else int(prompt), None if output < 0 else int(output))
        for prompt, output in found[order].tolist()
    )
    return Workloads(lengths, places[codes.reshape(-1)])


def lengths_of(row: Mapping[str, Any]) -> Lengths:
    """The lengths of one row."""
    prompt, output = row.get("prompt_tokens"), row.get("output_tokens")
    return prompt, output


def words(lengths: Lengths) -> str:
    """For people: `2,048 prompt + 256 output tokens`."""
    prompt, output = ("?" if tokens is None else f"{tokens:,}" for tokens in lengths)
    return f"{prompt} prompt + {output} output tokens"
