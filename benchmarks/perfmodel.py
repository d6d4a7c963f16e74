"""Speed of the performance model: points per second, time of one point, memory, and peers beside it.

    python benchmarks/perfmodel.py [--points N] [--repeats N] [--peers PYTHON]

The promise: 3 million points per second and core for the whole summary, one point in 0.3 ms, 300 MB for a
million points. `--peers` names the Python of another virtual environment with `llm-analysis` and
`genz-llm` in it (they want other versions of our dependencies):

    python -m venv peers && peers/bin/pip install llm-analysis genz-llm
    python benchmarks/perfmodel.py --peers peers/bin/python
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import time
from collections.abc import Iterator

import numpy as np

from engine.perfmodel.deployment import Deployment
from engine.perfmodel.point import predict_point
from engine.perfmodel.summary import WorkloadArrays, summarise
from engine.spec.catalog import load_hardware, load_model, load_quantization
from engine.spec.workload import Workload

HARDWARE = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm", "l40s")
FORMATS = ("bf16", "w4a16-g128", "w8a16", "kv-int8")

# Each prints one JSON line: milliseconds of a point (prefill and decode) on an A100 sheet.
LLM_ANALYSIS = """
import json, logging, time
logging.disable(logging.CRITICAL)
from llm_analysis.analysis import LLMAnalysis
from llm_analysis.config import GPUConfig, ModelConfig, ParallelismConfig, get_dtype_config_by_name
model = ModelConfig(name="m", num_layers=32, n_head=32, hidden_dim=4096, vocab_size=128256,
                    max_seq_len=8192, num_key_value_heads=8, ffn_embed_dim=16384)
gpu = GPUConfig(name="a100", mem_per_GPU_in_GB=80, hbm_bandwidth_in_GB_per_sec=2039,
                intra_node_bandwidth_in_GB_per_sec=600, intra_node_min_message_latency=1e-6,
                peak_fp16_TFLOPS=312)
tool = LLMAnalysis(model, gpu, get_dtype_config_by_name("w16a16e16"), ParallelismConfig(),
                   flops_efficiency=1.0, hbm_memory_efficiency=1.0)
call = lambda: tool.inference(batch_size_per_gpu=1, seq_len=2048, num_tokens_to_generate=256)
call()
times = []
for _ in range(200):
    start = time.perf_counter(); call(); times.append(time.perf_counter() - start)
print(json.dumps(sorted(times)[len(times) // 2] * 1e3))
"""
GENZ = """
import contextlib, io, json, time
from GenZ import decode_moddeling, prefill_moddeling
system = {"Flops": 312, "Memory_size": 80, "Memory_BW": 2039, "ICN": 600, "real_values": True}
same = dict(model="meta-llama/Llama-3.1-8B", batch_size=1, input_tokens=2048, system_name=system,
            bits="bf16", tensor_parallel=1)
def call():
    with contextlib.redirect_stdout(io.StringIO()):
        prefill_moddeling(**same)
        decode_moddeling(**same, output_tokens=256, Bb=1)
call()
times = []
for _ in range(5):
    start = time.perf_counter(); call(); times.append(time.perf_counter() - start)
print(json.dumps(sorted(times)[len(times) // 2] * 1e3))
"""


def deployments() -> Iterator[Deployment]:
    """Every device with every format, one model."""
    model = load_model("llama-3.1-8b")
    for device in HARDWARE:
        for form in FORMATS:
            yield Deployment(model, load_hardware(device), load_quantization(form))


def workloads(count: int) -> WorkloadArrays:
    """Batch x prompt x output in the order of a sweep, last axis fastest."""
    batches = np.array([1, 2, 4, 8, 16, 32, 64, 128])
    outputs = np.arange(16, 16 + 50 * 16, 16)
    prompts = 64 * np.arange(1, 1 + -(-count // (len(batches) * len(outputs))))
    b, p, o = (axis.ravel()[:count] for axis in np.meshgrid(batches, prompts, outputs, indexing="ij"))
    zero = np.zeros(1, dtype=np.int64)
    return WorkloadArrays(p, o, b, zero, zero, zero)


def shuffled(work: WorkloadArrays) -> WorkloadArrays:
    """The same points in no order: nothing repeats within a chunk."""
    order = np.random.default_rng(0).permutation(len(work))
    zero = work.shared_prefix_tokens
    return WorkloadArrays(
        work.prompt_tokens[order], work.output_tokens[order], work.batch_size[order], zero, zero, zero
    )


def sweep_rate(work: WorkloadArrays, repeats: int) -> tuple[float, float]:
    """Points per second of wall time and of processor time, best of several sweeps."""
    made = list(deployments())
    wall = processor = float("inf")
    for _ in range(repeats):
        start, busy = time.perf_counter(), time.process_time()
        for deployment in made:
            # As a run does: a block is predicted, written out and dropped.
            summarise(deployment, work)
        wall = min(wall, time.perf_counter() - start)
        processor = min(processor, time.process_time() - busy)
    points = len(work) * len(made)
    return points / wall, points / processor


def median_ms(call: object, repeats: int = 500) -> float:
    """Median time of a call, in milliseconds."""
    assert callable(call)
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2] * 1e3


def peer_ms(python: str, code: str) -> float | None:
    """Milliseconds a point takes in another tool, or None when it did not run."""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        print("   ", (done.stderr.strip().splitlines() or ["no message"])[-1])
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", help="Python of an environment with llm-analysis and genz-llm")
    options = parser.parse_args()

    work = workloads(options.points // (len(HARDWARE) * len(FORMATS)))
    points = len(work) * len(HARDWARE) * len(FORMATS)
    for name, columns in (("in sweep order", work), ("shuffled", shuffled(work))):
        wall, processor = sweep_rate(columns, options.repeats)
        print(f"{points:,} points {name}: {wall / 1e6:.2f} M/s wall, {processor / 1e6:.2f} M/s processor")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process: {peak:,.0f} MB")

    one = next(deployments())
    as_columns = WorkloadArrays.of(Workload())
    columns_ms = median_ms(lambda: summarise(one, as_columns))
    ours_ms = median_ms(lambda: predict_point(one, Workload()))
    print(f"one point: {columns_ms:.3f} ms as arrays of one, {ours_ms:.3f} ms as Python numbers")
    if not options.peers:
        print("peers: not measured, see --help")
        return
    for name, code in (("llm-analysis", LLM_ANALYSIS), ("genz-llm", GENZ)):
        theirs = peer_ms(options.peers, code)
        if theirs is not None:
            swept = theirs / 1e3 * processor
            print(
                f"{name}: {theirs:.3f} ms a point, {theirs / ours_ms:,.1f} x ours, {swept:,.0f} x in a sweep"
            )


if __name__ == "__main__":
    main()
