"""What a calibration is: parameters that turn data-sheet bounds of one device and engine into estimates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.spec.hardware import EnergyCoefficients, Precision
from engine.spec.quantity import Seconds
from engine.spec.settings import Settings

OperatorKind = Literal[
    "gemm", "prefill_attention", "decode_attention", "experts", "elementwise", "all_reduce"
]
Efficiency = Annotated[float, Field(gt=0, le=2)]
Ratio = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(ge=0, le=1)]


class LawParameters(Settings):
    """Parameters of the time of one kernel; see `form` for how they go together."""

    launch: Seconds
    """Time of a kernel with next to nothing to do."""
    compute_efficiency: Efficiency | None = None
    """Share of the data-sheet peak that large kernels reach; arithmetic is left out when absent."""
    memory_efficiency: Efficiency
    """Share of the data-sheet bandwidth (of the link, for collectives) that large kernels reach."""
    single_row: Efficiency | None = None
    """The same for products of a single row, where the device has kernels of their own for those; like any
    other product when absent."""
    root: Seconds = 0.0
    """Slow approach to those rates: the kernel takes sqrt(root x work) longer, work being its
    time without launch."""
    single_row_root: Seconds = 0.0
    """The same for products of a single row, which approach another rate; `root` when 0."""
    wave_share: Share = 0.0
    """How much of the last, partly filled wave of work items is lost: 0 none, 1 all of it."""
    depth_cost: Seconds = 0.0
    """Least time of a product per column of its activations: one tile walks along all of them, however few
    tiles there are."""
    alone_rate: Ratio | None = None
    """For decode attention without grouped heads, where kernels do not cut the cache of a head into pieces:
    how fast one multiprocessor reads, in shares of the bandwidth that fall to it. Absent where they do."""
    wave_cost: Seconds = 0.0
    """Least time of one wave of work items, one item a multiprocessor."""


class HeldOut(Settings):
    """Errors on rows that the fit had not seen, as fractions of the measured time."""

    median: Annotated[float, Field(ge=0)]
    """Median of |predicted / measured - 1|."""
    p90: Annotated[float, Field(ge=0)]
    """Nine of ten rows are closer than this."""
    ratio: Annotated[float, Field(gt=0)]
    """Median of predicted over measured: 1 is unbiased."""
    within_10: Share
    """Share of rows within 10 %."""
    within_25: Share
    """Share of rows within 25 %."""
    coverage: Share
    """Share of rows inside the 90 % band, each judged with bands made without it."""
    split: str
    """How rows were held out, such as `5 folds by site`."""


class Band(Settings):
    """Where nine of ten measured times lie, relative to the estimate, for estimates of one size."""

    below: Seconds | None = None
    """Estimates up to this time; absent for all longer ones."""
    low: Ratio
    """5 % quantile of measured over predicted."""
    high: Ratio
    """95 % quantile of measured over predicted."""
    rows: Annotated[int, Field(ge=1)]
    """Held-out rows behind the quantiles."""


class Range(Settings):
    """Smallest and largest value among the fitted rows."""

    low: float
    """Smallest."""
    high: float
    """Largest."""


class TimeRange(Settings):
    """Shortest and longest time among the fitted rows."""

    low: Seconds
    """Shortest."""
    high: Seconds
    """Longest."""


class OperatorFit(Settings):
    """Parameters of one kind of operator in one precision."""

    operator: OperatorKind
    """What they are for."""
    precision: Precision
    """Arithmetic of the fitted rows."""
    devices: Annotated[int, Field(ge=2)] | None = None
    """Devices that take part, for collectives."""
    form: Literal["overlapped", "added", "waves"]
    """`overlapped`: launch + fourth-power mean of compute / efficiency, bytes / efficiency and, for products,
    the cost of the depth. `added`:
    launch + both, one after the other and in whole waves, + a cost per wave. `waves`: launch + fourth-power
    mean of bytes / efficiency and the cost of the waves. Each plus sqrt(root x the rest but the launch)."""
    parameters: LawParameters
    """The fitted numbers."""
    launch_in_model: Seconds | None = None
    """Launch within a model's step where it differs from that of the operator alone: timings of 8-bit
    products hold the quantisation of their input, which engines do in the step before."""
    slower_in_model: Annotated[float, Field(ge=1, le=100)] | None = None
    """Factor on the rest of the time within a model's step, where it differs: an eager framework writes every
    result to fresh memory, and finds its caches full of weights. It is not in `held_out`."""
    rows: Annotated[int, Field(ge=1)]
    """Rows fitted."""
    sites: Annotated[int, Field(ge=1)]
    """Different shapes among them; folds hold out whole sites."""
    dropped: Annotated[int, Field(ge=0)] = 0
    """Rows left out of the fit, all reasons together."""
    held_out: HeldOut
    """How far off predictions of unseen sites were."""
    held_out_all: HeldOut | None = None
    """The same over every row, shapes that no engine has a good kernel for included; absent where all rows
    are usual ones."""
    bands: Annotated[list[Band], Field(min_length=1, max_length=10)]
    """By size, smallest first."""
    time_range: TimeRange
    """Measured times of the fitted rows; estimates beyond it are `extrapolated`."""
    ranges: dict[str, Range] = {}
    """Fitted range of each dimension."""
    source_version: str = ""
    """Edition of the software that ran these rows, where it is not the file's `engine_version`."""

    @model_validator(mode="after")
    def _bands_in_order(self) -> OperatorFit:
        limits = [band.below for band in self.bands]
        finite = [limit for limit in limits if limit is not None]
        if limits[-1] is not None or len(finite) != len(limits) - 1 or sorted(finite) != finite:
            raise ValueError("`bands` must rise in `below`, and only the last one leaves it out")
        return self


class RequestFit(Settings):
    """What a serving engine adds to the kernels of a step."""

    step: Seconds
    """Time of a decode step outside its kernels: scheduling, sampling, hand-over."""
    collective_step: Seconds = 0.0
    """More of it where devices work together."""
    expert_prompt: Seconds = 0.0
    """Time of each layer of experts in a step that holds more than 512 tokens of prompts, beyond its kernels:
    such steps are not replayed from a captured graph. It fades in from 256 tokens."""
    interference: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How much of the prefill of other requests delays a decode step; 1 is all of it."""
    rows: Annotated[int, Field(ge=1)]
    """Runs fitted."""
    held_out: HeldOut
    """Errors of the time per output token on configurations the fit had not seen."""
    bands: Annotated[list[Band], Field(min_length=1, max_length=10)]
    """Where measured times per token lie relative to the estimate."""
    source: str
    """Which runs."""


class HostFit(Settings):
    """What a framework does between the kernels it launches one by one, where nothing hides it."""

    step: Seconds
    """Time of each step, prefill too."""
    layer: Seconds
    """Time of each layer of a step."""
    rows: Annotated[int, Field(ge=1)]
    """Steps of small models it was fitted on."""


class EnergyFit(Settings):
    """Power of the device under this engine."""

    coefficients: EnergyCoefficients
    """Static power, energy per byte and per operation."""
    rows: Annotated[int, Field(ge=1)]
    """Runs fitted."""
    held_out: HeldOut
    """Errors of the energy per token on models the fit had not seen."""
    bands: Annotated[list[Band], Field(min_length=1, max_length=10)]
    """Where measured energies lie relative to the estimate."""


class Calibration(Settings):
    """Fitted parameters of one device under one engine, with where they come from and how good they are."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    """What reports call this parameter set."""
    device: Annotated[str, Field(min_length=1, max_length=120)]
    """Catalogue name of the device that was measured."""
    device_name: Annotated[str, Field(min_length=1, max_length=120)]
    """The `name` inside that entry: an experiment's device with this name is this device."""
    vendor: str | None = None
    """Its vendor: parameters are never transferred between vendors."""
    architecture: str | None = None
    """Its generation: parameters are transferred within one first."""
    engine: Annotated[str, Field(min_length=1, max_length=60)]
    """Software that ran the operators, such as vllm."""
    engine_version: str = ""
    """Its version: numbers move between releases."""
    fused: bool = True
    """The engine runs projections of one input as one kernel and joins neighbouring elementwise steps."""
    source: str
    """Where the rows come from, with commit and licence."""
    fitted: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """Date of the fit."""
    operators: Annotated[list[OperatorFit], Field(max_length=60)] = []
    """Fits by operator and precision."""
    host: HostFit | None = None
    """Time between kernels; absent for engines that replay captured graphs."""
    request: RequestFit | None = None
    """Terms of whole requests, where they were fitted."""
    energy: EnergyFit | None = None
    """Energy, where it was fitted."""
    notes: str | None = None
    """What a reader should know."""
