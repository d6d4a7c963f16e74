"""Training configurations in YAML, as they are: interpolations of OmegaConf stay text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engine.errors import LocatedError, MeasurementError
from engine.spec.tree import flatten
from engine.spec.yaml import read_file

# Where frameworks put each value: NeMo and NeuronX first, then the flat layout of smaller scripts.
_BATCH: Final = ("data.global_batch_size", "training.global_batch_size", "global_batch_size")
LENGTHS: Final = ("data.seq_length", "data.sequence_length", "seq_length")
_NODES: Final = ("trainer.num_nodes", "training.num_nodes", "num_nodes")
_RATE: Final = ("model.optim.lr", "training.learning_rate", "optim.lr", "learning_rate")
_LARGEST: Final = 1e9
"""No batch, sequence or cluster is larger; a larger number is a slip."""
_NAME: Final = ("model.name", "name")


@dataclass(frozen=True)
class TrainingConfig:
    """What a configuration says about a run; None where it says nothing, or only by interpolation."""

    path: Path
    values: Mapping[str, Any]
    """Everything, nested as written."""
    batch_size: int | None
    """Sequences of one optimiser step over all nodes."""
    sequence_length: int | None
    """Tokens of a sequence."""
    nodes: int | None
    learning_rate: float | None
    name: str | None
    notes: tuple[str, ...]
    """What a reader must know."""


def read_training_config(path: Path) -> TrainingConfig:
    """The configuration in a YAML file; raises `MeasurementError` when it is none."""
    try:
        # What would be a mistake in a spec (an unquoted date, say) does not matter in a foreign file.
        tree = read_file(path, name=str(path))
    except LocatedError as err:
        raise MeasurementError(f"`{path}` is no training configuration: {err.message}") from err
    values = flatten(tree.root)[0]
    notes = [
        f"`{path.name}`, line {problem.line}: {problem.message}; the first one counts"
        for problem in tree.problems
        if problem.code == "duplicate-key"
    ]
    return TrainingConfig(
        path,
        values,
        _whole(values, _BATCH, notes),
        _whole(values, LENGTHS, notes),
        _whole(values, _NODES, notes),
        _number(values, _RATE, notes),
        next((value for key in _NAME if isinstance(value := _at(values, key), str)), None),
        tuple(notes),
    )


def _at(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _number(values: Mapping[str, Any], paths: tuple[str, ...], notes: list[str]) -> float | None:
    for path in paths:
        value = _at(values, path)
        if isinstance(value, str):  # YAML 1.1 writers quote what their own loader reads as text
            try:
                value = float(value)
            except ValueError:
                notes.append(f"`{path}` is text (`{value[:40]}`), so it is not used")
                continue
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def _whole(values: Mapping[str, Any], paths: tuple[str, ...], notes: list[str]) -> int | None:
    value = _number(values, paths, notes)
    if value is None:
        return None
    if value != int(value) or not 1 <= value <= _LARGEST:
        notes.append(
            f"`{paths[0]}` is {value:g}, not a whole number from 1 to {_LARGEST:g}, so it is not used"
        )
        return None
    return int(value)
