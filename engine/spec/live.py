"""Settings of live benchmarks: real inference, in this process or over HTTP."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.spec.condition import Requirements
from engine.spec.quantity import PerSecond, Seconds
from engine.spec.settings import Settings

Share = Annotated[float, Field(ge=0, le=1)]
OPEN_PATTERNS = ("constant", "poisson", "gamma", "burst", "ramp")
REQUEST_LIMITS = (
    "ttft_s", "tpot_s", "e2e_s", "e2e_from_schedule_s", "ttft_from_schedule_s", "queue_s",
    "output_tokens_per_s_per_user",
)  # fmt: skip
"""Metrics that a single request has, so that a limit on them decides whether it counts as good."""


class LocalTarget(Settings):
    """A model inside the measuring process (transformers)."""

    kind: Literal["local"]
    """Run the model here."""
    weights: Annotated[str, Field(min_length=1, max_length=500)] = "random"
    """`random` (the exact shape, filled with random numbers: no download), a folder, or a hub name."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run; `auto` takes an accelerator when there is one."""
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Number type of weights and arithmetic; `auto` follows the point's `quantization`."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention implementation; `auto` leaves the choice to transformers and records it."""
    cache: Literal["dynamic", "static"] = "dynamic"
    """Key-value cache: grown step by step, or allocated once at full length."""
    quantizer: Literal["auto", "torchao", "bitsandbytes"] = "auto"
    """What makes weights of 8 or 4 bits where `quantization` asks for them: `torchao` (random and real
    weights) or `bitsandbytes` (real ones); `auto` takes the first of them that is installed."""
    compile: bool = False
    """Compile the decode step (`torch.compile`); needs `cache: static`."""
    batching: Literal["static", "continuous"] = "static"
    """`static`: N requests are one batch. `continuous`: requests join and leave between steps, where
    transformers offers it."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """CPU threads; as many as this process may use when absent."""
    generate: bool = False
    """Measure `generate()` too, interleaved with the engine's own loop, as rows of their own."""

    @model_validator(mode="after")
    def _compiled_cache_is_static(self) -> Self:
        if self.compile and self.cache != "static":
            raise ValueError("`compile: true` needs `cache: static`")
        return self


class HttpTarget(Settings):
    """A server that speaks the OpenAI protocol."""

    kind: Literal["openai"]
    """Measure a server from outside."""
    base_url: Annotated[str, Field(pattern=r"^https?://")]
    """For example http://127.0.0.1:8000/v1."""
    model: str
    """Name the server serves."""
    api_key_env: str | None = None
    """Environment variable that holds the key; the key is never written anywhere."""
    endpoint: Literal["chat", "completions"] = "chat"
    """Which of the two protocols to speak."""
    stream: bool = True
    """Ask for tokens as they come; without, only whole-request times exist."""
    tokenizer: str | None = None
    """Folder or hub name of the model's tokenizer: exact prompt lengths, and output counts where the server
    tells none. The server's own `/tokenize` is used when it has one."""
    ignore_eos: bool = True
    """Ask for exactly the wanted number of tokens where the server can. It can harm real models, so it is
    recorded; switch it off for answers of natural length."""
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Sampling temperature."""
    process: Annotated[int, Field(ge=1)] | None = None
    """Process number of the server on this machine, to record its memory."""

    @model_validator(mode="after")
    def _address_has_no_secret(self) -> Self:
        # The spec is copied into the run folder and the report; a key in it would travel along.
        if "@" in self.base_url or "?" in self.base_url:
            raise ValueError(
                "`base_url` must not hold credentials; name the variable with the key in `api_key_env`"
            )
        return self


class Deadlines(Settings):
    """How long a request may take before it counts as failed."""

    connect: Seconds = 10.0
    """To a live connection."""
    first_byte: Seconds = 120.0
    """From sending to the first byte of the answer."""
    idle: Seconds = 60.0
    """Between two pieces of an answer."""
    total: Seconds = 600.0
    """The whole request."""


class Prompts(Settings):
    """What is asked."""

    source: Literal["synthetic", "file"] = "synthetic"
    """Random text of exactly the wanted length, each prompt different; or lines of a file."""
    file: str | None = None
    """JSON lines with a key `prompt`, or plain text with a prompt a line; relative to the spec."""

    @model_validator(mode="after")
    def _file_given(self) -> Self:
        if (self.source == "file") != (self.file is not None):
            raise ValueError("`file` belongs to `source: file`, and that needs it")
        return self


class Load(Settings):
    """How requests arrive."""

    pattern: Literal[
        "closed", "constant", "poisson", "gamma", "burst", "ramp", "replay", "saturation", "rate_search"
    ] = "closed"
    """`closed` keeps a number of requests in flight. `constant`, `poisson`, `gamma`, `burst` and `ramp` start
    requests at a rate, whether or not earlier ones came back. `replay` follows a trace. `saturation` doubles
    the concurrency until throughput stops growing. `rate_search` finds the highest rate within `require`."""
    concurrency: (
        Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1, max_length=100)] | None
    ) = None
    """Requests in flight, one measurement each; the workload's batch size when absent."""
    rate: PerSecond | list[PerSecond] | None = None
    """Requests per second for open patterns, one measurement each; the upper end for `rate_search`."""
    prompt_lengths: (
        Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=100)] | None
    ) = None
    """Short and long prompts in one load: these lengths, dealt to its requests in turn. All have the
    workload's when absent."""
    burstiness: Annotated[float, Field(gt=0, le=100)] = 0.5
    """Shape of `gamma` gaps: below 1 bursty, 1 is Poisson, above 1 regular."""
    burst: Annotated[int, Field(ge=1, le=65536)] = 8
    """Requests that `burst` starts at once."""
    ramp_from: PerSecond | None = None
    """Rate at which `ramp` starts; a tenth of `rate` when absent."""
    trace: str | None = None
    """File of `replay`: CSV or JSON lines with arrival (s), prompt_tokens, output_tokens; relative to the
    spec."""
    time_scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Stretches the times of a trace: 2 replays it at half speed."""
    requests: Annotated[int, Field(ge=1, le=10**7)] | None = None
    """Requests of one repeat; when absent 4 x concurrency and at least 16 (one batch for a local target), ten
    seconds' worth of a rate, and in `rate_search` as many as a queue within the limits needs to build up."""
    max_in_flight: Annotated[int, Field(ge=1, le=65536)] = 4096
    """Most requests in flight in open patterns; a point that reaches it is labelled."""
    resolution: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    """`rate_search` stops when the bracket is this narrow, relative to the rate."""

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates asked for, none when absent."""
        if self.rate is None:
            return ()
        return tuple(self.rate) if isinstance(self.rate, list) else (self.rate,)

    def longest_prompt(self, workload_tokens: int) -> int:
        """Tokens of the longest prompt, where the workload asks for so many."""
        return max(self.prompt_lengths or [workload_tokens])

    @model_validator(mode="after")
    def _pattern_has_what_it_needs(self) -> Self:
        if self.pattern in OPEN_PATTERNS and not self.rates:
            raise ValueError(f"`pattern: {self.pattern}` needs `rate`")
        if any(rate <= 0 for rate in self.rates):
            raise ValueError("`rate` must be above 0")
        if self.pattern == "replay" and self.prompt_lengths:
            raise ValueError("`prompt_lengths` and a trace both say how long prompts are; use one of them")
        if (self.pattern == "replay") != (self.trace is not None):
            raise ValueError("`trace` belongs to `pattern: replay`, and that needs it")
        return self


class LiveSettings(Settings):
    """Measure real inference and put it beside the prediction."""

    kind: Literal["live"]
    """Measure real inference."""
    target: Annotated[LocalTarget | HttpTarget, Field(discriminator="kind")]
    """What to measure."""
    load: Load = Load()
    """How requests arrive."""
    prompts: Prompts = Prompts()
    """What is asked."""
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    """Measurements of each load, in shuffled order; intervals come from them."""
    take_turns: bool = False
    """Local targets: pass on to other measurements that take turns after each repeat, so that a drift of the
    machine meets all alike. Eight at a time have their models in memory together."""
    precision: Annotated[float, Field(gt=0, le=1)] | None = None
    """Stop repeating a load, after three repeats at least, once half the 95 % interval of its request time is
    within this share of the mean; all repeats when absent."""
    warmup: Seconds = 60.0
    """Longest warm-up; it ends when three blocks in a row agree within 5 %."""
    require: Requirements = {}
    """Limits on single requests, such as `ttft_s: "<= 500 ms"`: requests that meet all are goodput, and
    `rate_search` looks for the highest rate at which 99 % do. When absent, goodput takes those of
    `scoring.require` that a single request has."""
    attainment: Annotated[float, Field(gt=0, le=1)] = 0.99
    """Share of requests that must meet `require` for a rate to count as good."""
    max_error_share: Share = 0.01
    """A load with a larger share of failed requests is a failed point."""
    predict: bool = True
    """Put the performance model's prediction into the same rows; off where the device is not known."""
    check_oom: bool = True
    """Predict the memory before anything is loaded; what cannot fit is recorded and not started."""
    reserve: Share = 0.1
    """Share of free memory that must be left; what needs it is `tight`."""
    deadlines: Deadlines = Deadlines()
    """How long a request may take."""
    keep_token_times: bool = True
    """Store the time of every piece of every answer."""
    time_limit: Seconds = 600.0
    """A task that takes longer is stopped and recorded as failed."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        wrong = [name for name in self.require if name not in REQUEST_LIMITS]
        if wrong:
            raise ValueError(
                f"`require` of a live measurement limits single requests; `{wrong[0]}` is none of "
                + ", ".join(f"`{name}`" for name in REQUEST_LIMITS)
            )
        if self.load.pattern == "rate_search" and not self.require:
            raise ValueError("`pattern: rate_search` needs `require`, the limits to stay within")
        if isinstance(self.target, LocalTarget) and self.prompts.source == "file":
            raise ValueError(
                "`prompts` from a file need a server; a local model gets random prompts of exact length"
            )
        if (
            isinstance(self.target, LocalTarget)
            and self.load.prompt_lengths
            and self.target.cache == "static"
        ):
            raise ValueError("`prompt_lengths` of a local target need `cache: dynamic`")
        if self.take_turns and not (
            isinstance(self.target, LocalTarget) and self.target.batching == "static"
        ):
            raise ValueError("`take_turns` needs a local target with `batching: static`")
        if isinstance(self.target, LocalTarget) and self.load.pattern != "closed":
            raise ValueError(
                f"`pattern: {self.load.pattern}` needs a server; a local model knows `closed` only: threads "
                "that call one model take turns, which is no load"
            )
        return self
