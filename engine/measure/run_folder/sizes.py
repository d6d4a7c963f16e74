"""Sizes of models that neither a log nor the name of a folder states, by the catalogue."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from engine.errors import EngineError
from engine.spec.model import Model

# What publishers put behind the name of a model: `Mixtral-8x7B-Instruct-v0.1` is `mixtral-8x7b`.
_VARIANT: Final = re.compile(r"[-_ ](instruct|chat|hf|it|base|v[0-9.]+)(?![a-z]).*$", re.IGNORECASE)


@lru_cache(maxsize=1024)
def catalogue_size(name: str) -> tuple[str, float] | None:
    """Catalogue name and parameters of a model by its folder's name; None when there is no such model."""
    from engine.perfmodel.parameters import count_parameters
    from engine.spec.catalog import load

    for spelling in dict.fromkeys((name, _VARIANT.sub("", name))):
        try:
            model = load("model", spelling)
        except (EngineError, OSError):
            continue
        if isinstance(model, Model):
            return spelling, float(count_parameters(model).total)
    return None
