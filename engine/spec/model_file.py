"""A model from a file: our own YAML, a Hugging Face `config.json`, or the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from engine.errors import Problem, SpecError
from engine.spec.document import read_document, validate
from engine.spec.hf_config import model_from_config
from engine.spec.hf_file import read_config
from engine.spec.hf_quantization import quantization_from_config
from engine.spec.model import MODEL_SUFFIXES, Model
from engine.spec.quantization import Quantization

__all__ = ["checkpoint_quantization", "read_model_file"]


def read_model_file(path: Path) -> Model:
    """The model a file describes; raises `SpecError` with every problem, each naming file and key."""
    file = _file(path)
    if file.suffix != ".json":
        return validate(read_document(file), Model)
    return model_from_config(read_config(file), name=_name(file), origin=str(file))


def checkpoint_quantization(path: Path) -> Quantization | None:
    """The number format a checkpoint's `config.json` declares; None when it is not quantised."""
    file = _file(path)
    return quantization_from_config(read_config(file), origin=str(file))


def _file(path: Path) -> Path:
    if path.is_dir():
        path = path / "config.json"
        if not path.is_file():
            raise SpecError(
                [Problem(code="no-file", message=f"there is no `config.json` in `{path.parent}`")]
            )
    if path.suffix not in MODEL_SUFFIXES:
        known = ", ".join(f"`{suffix}`" for suffix in sorted(MODEL_SUFFIXES))
        raise SpecError(
            [Problem(code="bad-file", message=f"`{path.name}` is not a model file; expected {known}")]
        )
    return path


def _name(file: Path) -> str:
    """What reports call a checkpoint: its folder's name, for the file itself is always `config.json`."""
    name = file.resolve().parent.name if file.name == "config.json" else file.stem
    return name[:120] or "custom"
