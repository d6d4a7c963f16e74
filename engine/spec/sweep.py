"""Which design points an experiment covers."""

from typing import Annotated, Any, Literal

from pydantic import Field

from engine.spec.settings import Settings

Value = Any  # typed by path in the editor schema and checked by the plan against the field named
Assignment = dict[str, Value]


class Drop(Settings):
    """Combinations to leave out, with the reason that plan and report will show."""

    when: Annotated[Assignment, Field(min_length=1)]
    """A combination is dropped when every value named here matches; a list matches any of its values."""
    because: Annotated[str, Field(min_length=3)]
    """Why."""


class Range(Settings):
    """Numbers to draw from."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Draw evenly on a logarithmic scale."""


class Sample(Settings):
    """Points drawn at random instead of every combination."""

    method: Literal["random", "lhs"] = "lhs"
    """`random` draws independently; `lhs` spreads evenly over every range (Latin hypercube)."""
    points: Annotated[int, Field(ge=1, le=10**8)]
    """How many to draw."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Same seed, same points."""
    ranges: Annotated[dict[str, Range], Field(min_length=1)]
    """Path of a number in the experiment -> where to draw it from."""


class Sweep(Settings):
    """Order, once and for all: axes x ties (x samples), then `points` are added, then `drop` is applied."""

    axes: dict[str, list[Value]] = {}
    """Path of a field -> its values; every combination is a design point."""
    tie: list[Assignment] = []
    """Rows of values that move together."""
    points: list[Assignment] = []
    """Single points on top."""
    sample: Sample | None = None
    """Random points over ranges, combined with axes and ties."""
    drop: list[Drop] = []
    """Combinations to leave out."""
