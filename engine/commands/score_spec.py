"""The spec that the options of `engine score` stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from engine.spec.experiment import Experiment

INFERENCE: Final = "benchmark_inference.json"
CONTEST: Final = "nki-llama-contest"
_DEVICES: Final = {"trn1": "trainium1", "trn2": "trainium2"}


def score_experiment(options: Mapping[str, Any]) -> dict[str, Any]:
    """The experiment a user could have written instead."""
    contest = options["preset"] == CONTEST
    inference = options["inference_results"]
    if inference is None and not options["prompt_results"] and Path(INFERENCE).exists():
        inference = INFERENCE
    folder = inference if inference is not None and Path(inference).is_dir() else None
    training = {
        "kind": "training",
        "config": _unless_absent(options["config"], contest),
        "model": _unless_absent(options["model_config"], contest),
        "log_file": options["log_file"],
        "compile_dir": options["compile_dir"],
        "throughput": options["throughput"],
        "backend": options["hw_backend"],
        "devices_per_node": options["devices_per_node"],
        "nodes": options["nodes"],
        "warmup_steps": options["warmup_steps"] or None,
        "inference_results": None if folder is not None else inference,
        "prompt_results": list(options["prompt_results"]) or None,
    }
    # Finished results of ours are joined as they are: nothing measures them.
    read = [{"kind": "run_folder", "path": folder}] if folder is not None and not is_run(folder) else []
    return {
        "version": 1,
        "name": "nki-llama-score",
        # Every spec names a model; the contest needs none, and is one of Llama models.
        "model": training["model"] or "llama-3.1-8b",
        "hardware": _DEVICES.get(options["hw_backend"], options["hw_backend"]),
        "measurements": [{name: value for name, value in training.items() if value is not None}, *read],
        "scoring": {"preset": options["preset"], "nki_llama": nki_llama_numbers(options)},
    }


def _unless_absent(path: str, contest: bool) -> str | None:
    """A file the contest can do without: its score has no training part."""
    return None if contest and not Path(path).exists() else path


def nki_llama_numbers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Weights, references and variants under their names in a spec; what is None is left out."""
    numbers = {
        "training_weight": options.get("training_weight"),
        "inference_weight": options.get("inference_weight"),
        "reference_latency": _scaled(options.get("reference_latency"), "{:.12g} ms"),
        "reference_throughput": options.get("reference_throughput"),
        "base_mfu": None if options.get("base_mfu") is None else options["base_mfu"] / 100,
        "base_throughput": options.get("base_throughput"),
        "kernel_term": options.get("kernel_term"),
        "accuracy": options.get("accuracy"),
        "accuracy_threshold": options.get("accuracy_threshold"),
        "prompts": _prompts(options) or None,
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _scaled(value: float | None, form: str) -> str | None:
    return None if value is None else form.format(value)


def _prompts(options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Baselines of the prompts that have a result, in a spec's form; raises `MeasurementError`."""
    table = options.get("prompt_baselines")
    if table is None:
        return []
    from engine.measure.training.inference import read_prompt_table

    count = len(options.get("prompt_results") or ())
    return [
        {
            "prompt": row.index,
            "latency": f"{1e3 * row.latency_s:.12g} ms",
            "throughput": row.throughput_tokens_per_s,
        }
        for row in read_prompt_table(Path(table))
        if not count or row.index < count
    ]


def is_run(folder: str) -> bool:
    """Whether a folder is a finished run of ours."""
    from engine.results.documents import PLAN

    return (Path(folder) / PLAN).exists()


def as_yaml(experiment: Mapping[str, Any]) -> str:
    """The experiment as a user would write it."""
    import io

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = io.StringIO()
    yaml.dump(dict(experiment), out)
    return out.getvalue()


def checked(experiment: Mapping[str, Any]) -> Experiment:
    """The experiment through the same door as a file; raises `SpecError`."""
    from engine.spec.document import read_document, validate
    from engine.spec.experiment import Experiment

    document = read_document("engine score", data=as_yaml(experiment).encode())
    return validate(document, Experiment)
