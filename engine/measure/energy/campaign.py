"""A whole measurement on this machine: idle, load, requests, component loops, idle again - as one trace."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from engine.measure.energy import devices
from engine.measure.energy.loops import LoopPlan, plan_loops, run_trials
from engine.measure.energy.phases import TIME_ONLY
from engine.measure.energy.probe import SensorPeriods, probe
from engine.measure.energy.requests import Runner, shortest_window, tokenizer_of
from engine.measure.energy.source import SLOWDOWN, HostClock, Metered, PowerSource, Quick, open_source
from engine.measure.energy.trace import ASSUMED_PERIOD_S, HOOKED, Event, LoopReads, Trace
from engine.measure.local_spread import synchronize
from engine.results.estimate import difference, estimate

if TYPE_CHECKING:
    from engine.measure.energy.recorder import Recorder
    from engine.measure.energy.trace import Channel
    from engine.measure.local_model import LocalModel
    from engine.measure.registry import Tools
    from engine.plan.point import Point
    from engine.spec.energy import EnergySettings

_ALONE: Final = 3
"""Windows without a recorder, to see what it costs."""
_REST_S: Final = 0.3
"""Between two windows where energy is metered: three updates of the counter."""


@dataclass(eq=False)
class _Campaign:
    """What grows while a campaign runs."""

    settings: EnergySettings
    clock: HostClock
    source: PowerSource | None
    say: Callable[[str], None]
    events: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    own: set[int] = field(default_factory=lambda: {os.getpid(), os.getppid()})
    """Processes that are this measurement, as the driver numbers them."""

    uuids: tuple[str, ...] = ()
    """Devices that hold the model."""

    def users(self) -> dict[str, set[int]]:
        """Processes on each device, ours included."""
        return self.source.users() if self.source is not None else {}

    def disturbed(self) -> bool:
        """Whether somebody else uses a device of the model."""
        return any(pids - self.own for pids in self.users().values())

    def idle(self, variant: str) -> None:
        """Watch an idle device, after it came to rest."""
        if self.source is None:
            return
        self.say(f"idle power, {variant}: {self.settings.idle.settle + self.settings.idle.window:g} s")
        self.clock.sleep(self.settings.idle.settle)
        begin = self.clock.now()
        self.clock.sleep(self.settings.idle.window)
        self.events.append(Event("idle", "idle", begin, self.clock.now(), variant=variant))

    def rest(self) -> None:
        """Keep windows apart by more than a sensor update."""
        if self.source is not None:
            self.clock.sleep(_REST_S)


def run_campaign(settings: EnergySettings, point: Point, tools: Tools) -> Trace:
    """Measure a point here; raises `EnvironmentMissing` where power is asked for and cannot be read."""
    source = open_source(settings) if settings.metered else None
    campaign = _Campaign(settings, HostClock(), source, tools.say)
    try:
        if source is None:
            loops, periods, _ = _run(campaign, point, tools)
            return _trace(campaign, (), loops, periods)
        devices.refuse_unmetered(settings.target)
        from engine.measure.energy.recorder import Recorder

        with Recorder(
            source.name,
            uuids=[device.uuid for device in source.devices],
            interval_s=settings.sample_interval,
            folder=tools.scratch,
        ) as recorder:
            loops, periods, runner = _run(campaign, point, tools)
            channels = recorder.stop()
            _tell_cost(campaign, recorder, runner)
        return _trace(campaign, channels, loops, periods)
    finally:
        if source is not None:
            source.close()


def _run(
    campaign: _Campaign, point: Point, tools: Tools
) -> tuple[list[LoopReads], SensorPeriods | None, Runner]:
    """Idle, load, requests and loops in order."""
    settings = campaign.settings
    campaign.idle("cold before")
    before = campaign.users()
    local = _build(settings, point, tools)
    loaded = campaign.clock.now()
    _keep_own_devices(campaign, local, before)
    # From the model's own stamp: reading the libraries in is no part of loading a model.
    campaign.events.append(Event("phase", "load", loaded - local.load_s, loaded))
    if local.requested.get("weights") == "random":
        campaign.notes.append("random weights: power depends on the data, by up to 40 % for matrix products")
    campaign.facts.update({f"model {name}": value for name, value in local.observed.items()})
    campaign.idle("resident before")
    runner = _runner(campaign, local, point, tools)
    periods = _probe(campaign, runner)
    period = (periods.known if periods else None) or ASSUMED_PERIOD_S
    runner.least_s = shortest_window(period) if settings.metered else 0.0
    for repeat in range(-1, settings.repeats):
        campaign.say(f"request {repeat + 1} of {settings.repeats}" if repeat >= 0 else "warm-up request")
        campaign.events += runner.request(max(repeat, 0), warmup=repeat < 0)
    if runner.tokenizer is None:
        campaign.notes.append("no tokenizer: tokenize and detokenize were not measured")
    loops: list[LoopReads] = []
    if settings.granularity != "phase" and settings.method == "loop":
        loops = _loops(campaign, runner, tools, period)
    elif settings.granularity != "phase":
        _mark_layers(campaign, runner)
    campaign.idle("resident after")
    return loops, periods, runner


def _build(settings: EnergySettings, point: Point, tools: Tools) -> LocalModel:
    from engine.measure.local_model import build_local_model
    from engine.measure.local_target import request_of

    return build_local_model(request_of(settings.target, point, folder=tools.spec_folder, seed=tools.seed))


def _runner(campaign: _Campaign, local: LocalModel, point: Point, tools: Tools) -> Runner:
    from engine.measure.energy.predictions import intensities

    w, target = point.workload, campaign.settings.target
    runner = Runner(
        local, w.prompt_tokens, w.output_tokens, w.batch_size, target.cache, tools.seed, 0.0,
        between=campaign.rest, tokenizer=tokenizer_of(local, target.weights, tools.scratch),
    )  # fmt: skip
    runner.know_intensity(intensities(point))
    return runner


def _keep_own_devices(campaign: _Campaign, local: LocalModel, before: Mapping[str, set[int]]) -> None:
    """Count only the devices the model runs on, and learn which process there is this one."""
    source = campaign.source
    if source is None:
        return
    campaign.uuids = devices.uuids_of(local)
    devices.require_known(campaign.uuids, {device.uuid for device in source.devices})
    source.keep(campaign.uuids)
    # In a container the driver numbers processes as the host does: ours is the one that came with the model.
    for uuid, pids in campaign.users().items():
        campaign.own |= pids - before.get(uuid, set())
    others = {pid for uuid in campaign.uuids for pid in before.get(uuid, ())} - campaign.own
    if others:
        campaign.notes.append(f"{len(others)} other processes use the device: trials do not count")


def _probe(campaign: _Campaign, runner: Runner) -> SensorPeriods | None:
    """Update periods under a load that comes and goes: idle power is too flat to see updates."""
    source = campaign.source
    if source is None or source.name == "nvidia-smi":
        return None

    work = _pulse(runner.local.devices) if runner.local.device == "cuda" else runner.fill

    def load(elapsed_s: float) -> None:
        if int(elapsed_s / 0.2) % 2:
            work()

    wanted = campaign.settings.probe
    found = probe(source, campaign.clock, duration_s=wanted.duration, interval_s=wanted.interval, load=load)
    note = found.note()
    if note is not None:
        campaign.notes.append(note)
    campaign.facts.update({"counter_period_s": found.counter_s, "instant_period_s": found.instant_s})
    return found


def _pulse(devices: Sequence[str]) -> Callable[[], Any]:
    """Work on every device, of about a millisecond, that ends before the call does: a whole prefill would
    take longer than a sensor's period, and one that is only queued would run on into the pauses."""
    import torch

    matrices = [torch.randn(4096, 4096, device=device, dtype=torch.bfloat16) for device in devices]
    products = [torch.empty_like(matrix) for matrix in matrices]

    def run() -> None:
        for matrix, product in zip(matrices, products, strict=True):
            torch.matmul(matrix, matrix, out=product)
        synchronize(devices)

    return run


def _loops(campaign: _Campaign, runner: Runner, tools: Tools, period_s: float) -> list[LoopReads]:
    """Trials of every component in prefill and decode."""
    import torch

    from engine.measure.energy.components import Graphs, ablated, works_of

    settings = campaign.settings
    cuda = runner.local.device == "cuda"
    devices = runner.local.devices
    # A graph is recorded in the stream of one device.
    graphs = Graphs() if cuda and len(devices) == 1 else None
    if len(devices) > 1:
        campaign.notes.append(
            f"layers lie on {len(devices)} devices: loops run without CUDA graphs, kernels have gaps between "
            "them, and an energy is the sum over the devices, those that wait included"
        )
    plan = plan_loops(settings.loop, period_s=period_s, metered=settings.metered)
    works = []
    with torch.inference_mode():
        anatomy, captured = _captured(campaign, runner)
        for phase, calls in captured.items():
            own = works_of(
                calls, phase=phase, granularity=settings.granularity, cuda=cuda, heads=settings.heads,
                graphs=graphs, devices=devices,
            )  # fmt: skip
            works += own
            if settings.ablation:
                works += ablated(
                    calls, anatomy, phase=phase, cuda=cuda, first=len(own), graphs=graphs, devices=devices
                )
        if settings.heads and not any(work.parent == "context" for work in works):
            campaign.notes.append("attention of this model cannot be cut into heads: none was timed apart")
        for name, why in graphs.failed.items() if graphs else ():
            campaign.notes.append(f"`{name}` runs without a CUDA graph, with gaps between kernels: {why}")
        campaign.say(_announce(len(works), settings.trials, plan))
        return run_trials(
            works, plan, campaign.clock, trials=settings.trials, seed=tools.seed,
            read=_quick(campaign.source), foreign=campaign.disturbed, say=tools.say,
        )  # fmt: skip


def _announce(works: int, trials: int, plan: LoopPlan) -> str:
    minutes = works * trials * plan.trial_s / 60
    return f"{works} components x {trials} trials x {plan.trial_s:.1f} s: about {minutes:.0f} min"


def _captured(campaign: _Campaign, runner: Runner) -> tuple[Any, dict[str, Any]]:
    """Calls of one prefill and of one decode step, with their real inputs."""
    from engine.measure.energy.anatomy import dissect
    from engine.measure.energy.capture import Capture, room_for_inputs
    from engine.measure.local_loop import decode_step

    model = runner.local.module
    anatomy = dissect(model)
    budget = room_for_inputs(runner.local.devices)
    with Capture(model, anatomy, budget_bytes=budget) as first:
        cache, chosen = runner.fill()
    with Capture(model, anatomy, budget_bytes=budget) as second:
        decode_step(model, chosen, cache, positions=runner.positions(1))
    for phase, seen in (("prefill", first), ("decode", second)):
        if seen.borrowed:
            campaign.notes.append(
                f"{phase}: {seen.borrowed} inputs stand in from another layer, for want of memory"
            )
    return anatomy, {"prefill": first.calls, "decode": second.calls}


def _mark_layers(campaign: _Campaign, runner: Runner) -> None:
    """One prefill and one decode step with hooks that take the time of each layer."""
    import torch

    from engine.measure.energy.anatomy import dissect
    from engine.measure.energy.marks import Marks
    from engine.measure.local_loop import decode_step

    model = runner.local.module
    cuda = runner.local.device == "cuda"
    anatomy = dissect(model)
    campaign.rest()
    with Marks(anatomy, cuda=cuda, devices=runner.local.devices) as marks:
        begin = time.perf_counter()
        cache, chosen = runner.fill()
        found = marks.events("prefill")
        end = time.perf_counter()
    tokens = int(runner.prompts.numel())
    campaign.events += [Event("phase", "prefill", begin, end, variant=HOOKED, tokens=tokens), *found]
    with torch.inference_mode(), Marks(anatomy, cuda=cuda, devices=runner.local.devices) as marks:
        begin = time.perf_counter()
        decode_step(model, chosen, cache, positions=runner.positions(1))
        found = marks.events("decode")
        end = time.perf_counter()
    tokens = runner.batch_size
    campaign.events += [Event("phase", "decode", begin, end, variant=HOOKED, tokens=tokens), *found]


def _quick(source: PowerSource | None) -> Callable[[bool], Quick] | None:
    if source is None or source.name == "nvidia-smi":
        return None
    return lambda slow: source.quick(slow=slow)


def _tell_cost(campaign: _Campaign, recorder: Recorder, runner: Runner) -> None:
    """What recording cost: processor time, and the time of a phase with it against without."""
    report = recorder.report
    if report is not None:
        campaign.notes.append(
            f"recorder: {report.rows} rows, {report.cpu_share:.2%} of one core, {report.late} readings late"
        )
    phase = runner.longest
    beside = [e for e in campaign.events if (e.kind, e.phase, e.warmup) == ("phase", phase, False)]
    alone = [runner.plain(phase) for _ in range(min(campaign.settings.repeats, _ALONE))]
    with_it, without = (estimate([e.seconds / e.iterations for e in some]) for some in (beside, alone))
    if with_it is not None and without is not None:
        more = difference(with_it, without).scaled(1 / without.mean)
        ends = "" if more.low is None else f" ({more.low:+.2%} to {more.high:+.2%})"
        campaign.notes.append(
            f"sampling: {phase} took {more.mean:+.2%}{ends} of its time without a recorder, "
            f"n = {with_it.n} and {without.n}"
        )


def with_power(loop: LoopReads, channels: Sequence[Channel]) -> LoopReads:
    """A loop that read nothing itself, with the power that the recorder saw meanwhile (nvidia-smi)."""
    import numpy as np

    known = [one for one in channels if one.get("power_w") is not None]
    if loop.energy_j is not None or loop.power_w is not None or not known or len(known) < len(channels):
        return loop
    watts = np.zeros(len(loop.times_s))
    for one in known:
        at = np.searchsorted(one.times_s, loop.times_s, side="right") - 1
        watts += np.where(at >= 0, one.readings["power_w"][np.maximum(at, 0)], np.nan)
    return replace(loop, power_w=watts)


def _trace(
    campaign: _Campaign,
    channels: Sequence[Channel],
    loops: Sequence[LoopReads],
    periods: SensorPeriods | None,
) -> Trace:
    source = campaign.source
    channels = [one for one in channels if one.device in campaign.uuids]
    if source is not None:
        campaign.facts.update(_facts(source.devices))
        if any(device.scope == "module" for device in source.devices):
            campaign.notes.append("one counter covers the whole module: processor and device together")
    return Trace(
        source.name if source else TIME_ONLY,
        tuple(channels),
        tuple(campaign.events),
        tuple(with_power(loop, channels) for loop in loops),
        period_s=periods.known if periods else None,
        notes=tuple(campaign.notes),
        facts=campaign.facts,
    )


def _facts(found: Sequence[Metered]) -> dict[str, Any]:
    """What is known of the devices; of several each under its own number, and the coolest limit for all."""
    facts: dict[str, Any] = {}
    for number, device in enumerate(found):
        own = {"device": device.name, "uuid": device.uuid, "scope": device.scope, **device.facts}
        lead = f"device {number} " if len(found) > 1 else ""
        facts |= {f"{lead}{name}": value for name, value in own.items()}
    limits = [one.facts[SLOWDOWN] for one in found if SLOWDOWN in one.facts]
    return facts | ({SLOWDOWN: min(limits)} if limits else {})
