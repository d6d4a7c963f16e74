"""A point of a live measurement, its tables, and a quiet process."""

from __future__ import annotations

from pathlib import Path

import pytest

TINY = {
    "name": "tiny",
    "architecture": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
    "max_position_embeddings": 512,
}


@pytest.fixture(scope="session")
def measure(tmp_path_factory):
    """Measure one point: (live settings, workload) -> tables as lists of rows."""
    scratch = tmp_path_factory.mktemp("live")

    def run(live, *, workload=None, folder=None, failing=False, **sections):
        from engine.measure.live.measure import measure_point
        from engine.measure.registry import Incomplete, Tools
        from engine.plan.compile import compile_plan
        from engine.spec.experiment import Experiment

        experiment = Experiment.model_validate(
            {
                "version": 1,
                "name": "live",
                "model": TINY,
                "hardware": "h100-sxm-80gb",
                "quantization": "fp32",
                "workload": {"prompt_tokens": 16, "output_tokens": 4, **(workload or {})},
                "measurements": [{"kind": "live", **live}],
                **sections,
            }
        )
        task = compile_plan(experiment).tasks[0]
        tools = Tools(Path(folder or scratch), scratch, seed=7)
        point = next(task.points())
        if failing:
            with pytest.raises(Incomplete) as caught:
                measure_point(task.settings, point, tools)
            tables = caught.value.tables
        else:
            tables = measure_point(task.settings, point, tools)
        return {name: table.to_pylist() for name, table in tables.items()}

    return run
