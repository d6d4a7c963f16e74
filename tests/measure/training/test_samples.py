"""Files of real training tool chains, where somebody has a collection of them at hand.

`ENGINE_SHARED` names a folder with `samples/`; without it the other tests write such files themselves.
"""

import os
from pathlib import Path

import pytest

from engine.measure.training.reading import read_training
from engine.spec.training import TrainingSettings

SAMPLES = Path(os.environ.get("ENGINE_SHARED", "")) / "samples"
pytestmark = pytest.mark.skipif(
    not os.environ.get("ENGINE_SHARED"), reason="ENGINE_SHARED names no collection of sample files"
)


def test_samples_of_a_neuron_run() -> None:
    settings = TrainingSettings(
        kind="training",
        log_file="nxdt_train_log/c_progress.log",
        config="neuron_train_config/hf_llama3_8B_SFT_config.yaml",
        compile_dir="neuron_cache_hlo",
        model="neuron_model_config/8B_config_llama3-1.json",
        inference_results="neuron_benchmark_report/document_example.json",
    )
    found = read_training(settings, SAMPLES)
    assert (found.sequence_length, found.batch_size, found.nodes) == (4096, 64, 1)
    assert found.log is not None
    assert sorted({s.sequences_per_s for s in found.log.steps}) == [2.05, 2.12, 2.13]
    assert found.kernels is not None
    assert (found.kernels.kernel_macs, found.kernels.total_macs) == (121543255, 658414167)
    assert (len(found.kernels.read), len(found.kernels.failed)) == (1, 1)
    assert found.utilization is not None
    assert found.utilization.reference_flops == 224042674028544
