"""What energy profiling costs: `python benchmarks/energy_overhead.py [--library libnvidia-ml.so.1]`.

Prints the recorder's share of a core beside that of a bare loop that sleeps and reads, the time of a decode
step with and without hooks, and what a coarse profile takes beyond its measured windows. Without an NVIDIA
driver name a pretend NVML with `--library` (tests/measure/energy/nvml_fake.c, built as the tests build it).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.measure.energy.anatomy import dissect
from engine.measure.energy.marks import Marks
from engine.measure.energy.recorder import Recorder
from engine.measure.local_loop import decode_step, make_cache, prefill, random_prompts
from engine.measure.local_model import LocalModel, LocalRequest, build_local_model
from engine.spec.model import Model

if TYPE_CHECKING:
    from engine.measure.energy.tape import FieldTape


def recorder_share(interval_s: float, seconds: float) -> None:
    """Processor time of the recorder over wall time, beside a bare loop: no recorder can go below it."""
    from engine.measure.energy.nvml import Nvml

    source = Nvml()
    uuids = [device.uuid for device in source.devices]
    floor = bare_share(source.tape(1 + round(seconds / interval_s)), interval_s, seconds / 2)
    source.close()
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder("nvml", uuids=uuids, interval_s=interval_s, folder=Path(folder))
        with recorder:
            time.sleep(seconds)
            recorder.stop()
    report, bare = recorder.report, f"{floor:.2%} a bare loop of sleeping and one call"
    if report is not None:
        print(
            f"recorder at {interval_s * 1e3:g} ms: {report.cpu_share:.2%} of one core ({bare}), "
            f"{report.rows} rows in {report.seconds:.1f} s, {report.late} late; "
            f"{report.start_s:.2f} s of processor time before the first reading"
        )


def bare_share(tape: FieldTape, interval_s: float, seconds: float) -> float:
    """Share of a core of nothing but sleeping and the call for power and energy."""
    begin, used = time.perf_counter(), time.process_time()
    turn = 0
    while (moment := time.perf_counter()) < begin + seconds:
        tape.turn(moment, slow=False)
        turn += 1
        time.sleep(max(0.0, begin + turn * interval_s - time.perf_counter()))
    return (time.process_time() - used) / (time.perf_counter() - begin)


def model_of(hidden: int, layers: int) -> LocalModel:
    """A model whose decode step takes milliseconds on a CPU."""
    shape = Model(
        name="overhead", architecture="llama", hidden_size=hidden, intermediate_size=4 * hidden,
        num_hidden_layers=layers, num_attention_heads=16, num_key_value_heads=4, vocab_size=8192,
    )  # fmt: skip
    return build_local_model(LocalRequest(shape, dtype="fp32"))


def hook_cost(local: LocalModel, steps: int) -> None:
    """Decode steps with hooks and without, in turn: medians and their ratio.

    On the CPU in processor time, which other processes on a busy machine do not stretch as they do wall time.
    """
    import torch

    anatomy = dissect(local.module)
    cuda = local.device == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    prompts = random_prompts(local, sequences=1, length=64, seed=1)
    cache = make_cache(local, "dynamic", length=64 + 4 * steps)
    spent: dict[str, list[float]] = {"without": [], "with": []}
    with torch.inference_mode():
        positions = torch.arange(64, device=local.device).unsqueeze(0)
        chosen = prefill(local, prompts, cache, positions=positions)
        for turn in range(2 * steps):
            at = torch.tensor([[64 + turn]], device=local.device)
            kind = "with" if turn % 2 else "without"
            marks = Marks(anatomy, cuda=cuda) if turn % 2 else None
            if marks is not None:
                marks.__enter__()
            begin = clock()
            chosen = decode_step(local.module, chosen, cache, positions=at)
            if cuda:
                torch.cuda.synchronize()
            spent[kind].append(clock() - begin)
            if marks is not None:
                marks.__exit__()
    plain, hooked = (statistics.median(spent[kind]) for kind in ("without", "with"))
    places = sum(place.component in ("layer", "attention", "ffn", "norm") for place in anatomy.places)
    print(
        f"decode step: {plain * 1e3:.2f} ms without hooks, {hooked * 1e3:.2f} ms with {places} of them: "
        f"{hooked / plain - 1:+.2%} (n = {steps} each)"
    )
    left = sum("forward" in vars(m) or bool(m._forward_pre_hooks) for m in local.module.modules())
    print(f"hooks left on the model afterwards: {left}")


def sampling_cost(local: LocalModel, steps: int) -> None:
    """Decode steps while a recorder runs beside, and while none does."""
    from engine.measure.energy.nvml import Nvml

    source = Nvml()
    uuids = [device.uuid for device in source.devices]
    source.close()
    found: dict[bool, list[float]] = {False: [], True: []}
    for recording in (False, True, False, True):
        with tempfile.TemporaryDirectory() as folder:
            recorder = Recorder("nvml", uuids=uuids, interval_s=0.01, folder=Path(folder))
            if recording:
                recorder.start()
            found[recording] += _steps(local, steps)
            if recording:
                recorder.stop()
    off, on = statistics.median(found[False]), statistics.median(found[True])
    print(f"decode step: {off * 1e3:.2f} ms without sampling, {on * 1e3:.2f} ms with: {on / off - 1:+.2%}")


def _steps(local: LocalModel, steps: int) -> list[float]:
    import torch

    prompts = random_prompts(local, sequences=1, length=64, seed=1)
    cache = make_cache(local, "dynamic", length=64 + steps)
    spent = []
    with torch.inference_mode():
        positions = torch.arange(64, device=local.device).unsqueeze(0)
        chosen = prefill(local, prompts, cache, positions=positions)
        for turn in range(steps):
            at = torch.tensor([[64 + turn]], device=local.device)
            begin = time.perf_counter()
            chosen = decode_step(local.module, chosen, cache, positions=at)
            if local.device == "cuda":
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - begin)
    return spent


def coarse_cost(local: LocalModel) -> None:
    """Wall time of the windows of a coarse profile against the time they were asked to last."""
    from engine.measure.energy.requests import Runner, shortest_window

    least = shortest_window(0.1)
    runner = Runner(local, 64, 32, 1, "dynamic", 1, least)
    runner.request(0, warmup=True)
    begin = time.perf_counter()
    events = [event for event in runner.request(0) if event.kind == "phase"]
    spent = time.perf_counter() - begin
    measured = sum(event.seconds for event in events)
    print(f"coarse request: {measured:.2f} s in windows, {spent:.2f} s in all: {spent / measured - 1:+.2%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", type=Path, help="pretend NVML, where there is no driver")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=16)
    options = parser.parse_args()
    if options.library is not None and "FAKE_NVML" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "fake.txt"
            config.write_text("virtual_time 0\npiece 1000000 300\n")
            environment = {
                **os.environ,
                "FAKE_NVML": str(config),
                "LD_LIBRARY_PATH": str(options.library.parent),
            }
            # The dynamic linker reads its path once, at the start of a process.
            code = os.spawnve(os.P_WAIT, sys.executable, [sys.executable, *sys.argv], environment)
        sys.exit(code)
    for interval in (0.01, 0.02, 0.1):
        recorder_share(interval, options.seconds)
    local = model_of(options.hidden, options.layers)
    print(f"model: {local.weights_bytes / 4e6:.0f} M parameters on {local.device}")
    hook_cost(local, options.steps)
    sampling_cost(local, options.steps)
    coarse_cost(local)


if __name__ == "__main__":
    main()
