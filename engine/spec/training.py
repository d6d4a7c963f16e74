"""Settings of training-run reading."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from engine.spec.settings import Settings

PositiveInt = Annotated[int, Field(gt=0)]


class TrainingSettings(Settings):
    """Read what a training run left behind: logs, configs, compile caches, inference reports."""

    kind: Literal["training"]
    """Read a training run."""
    log_file: str | None = None
    """Training log (progress bars, key=value or JSON lines, TensorBoard events), relative to the spec."""
    config: str | None = None
    """Training configuration (YAML), relative to the spec."""
    compile_dir: str | None = None
    """Compile cache with HLO modules, or the folder of one module, relative to the spec."""
    model: str | None = None
    """Model that was trained: a name of the catalogue or the path of its `config.json`; MFU needs it."""
    sequence_length: PositiveInt | None = None
    """Tokens of a sequence; `data.seq_length` of the configuration when absent."""
    batch_size: PositiveInt | None = None
    """Sequences of an optimiser step; `data.global_batch_size` of the configuration when absent."""
    nodes: PositiveInt | None = None
    """Nodes that trained; `trainer.num_nodes` of the configuration, else 1, when absent."""
    throughput: Annotated[float, Field(gt=0)] | None = None
    """Sequences per second over all nodes; the mean of the log when absent."""
    backend: str = "trn1"
    """Kind of node: `trn1`, `trn2`, or a device of the catalogue with `devices_per_node`."""
    devices_per_node: PositiveInt | None = None
    """Devices of a node; needed unless the backend is `trn1` or `trn2`, whose nodes are known."""
    precision: Literal["bf16", "fp16", "fp8", "tf32", "fp32"] = "bf16"
    """Arithmetic whose peak MFU is a share of, for devices of the catalogue."""
    kernel_targets: Annotated[list[str], Field(max_length=100)] = ["AwsNeuronCustomNativeKernel"]
    """Targets of custom calls that count as custom kernels."""
    count_convolutions: bool = False
    """Count multiply-adds of convolutions beside those of dots."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps at the start of the log that no average contains."""
    inference_results: str | None = None
    """Report of an inference benchmark (`benchmark_inference.json`), relative to the spec."""
    prompt_results: Annotated[list[str], Field(max_length=10_000)] = []
    """Reports of single prompts in order, for the contest: the first one is `prompt 0`."""

    @model_validator(mode="after")
    def _something_to_read(self) -> Self:
        sources = (self.log_file, self.config, self.compile_dir, self.inference_results, self.throughput)
        if all(source is None for source in sources) and not self.prompt_results:
            raise ValueError(
                "nothing to read: give `log_file`, `config`, `compile_dir` or `inference_results`"
            )
        if self.backend not in ("trn1", "trn2") and self.devices_per_node is None:
            raise ValueError(
                f"`backend: {self.backend}` is neither `trn1` nor `trn2`, whose nodes are known; "
                "a device of the catalogue needs `devices_per_node`"
            )
        return self
