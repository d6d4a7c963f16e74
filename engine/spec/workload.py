"""What one step or request asks of a model, and over how many devices it is spread."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from engine.spec.settings import Settings

Tokens = Annotated[int, Field(ge=1, le=10**8)]


COUNTS: Final = (
    "prompt_tokens",
    "output_tokens",
    "batch_size",
    "shared_prefix_tokens",
    "prefill_chunk_tokens",
    "prefill_tokens_per_step",
)
"""The plain counts of `Workload`: swept values of these stay columns. An absent chunk is 0 there."""


class Speculation(Settings):
    """Speculative decoding: a cheap draft proposes tokens, the model checks them in one step."""

    tokens: Annotated[int, Field(ge=1, le=64)] = 4
    """Tokens proposed per step."""
    acceptance: Annotated[float, Field(ge=0, le=1)] = 0.7
    """Chance that a proposed token is accepted, each independently."""
    draft_model: str | None = None
    """Catalogue name of the draft model; absent: drafting costs nothing (n-gram lookup)."""


class Workload(Settings):
    """Tokens in, tokens out, sequences at a time."""

    prompt_tokens: Tokens = 2048
    """Prompt length of each sequence."""
    output_tokens: Tokens = 256
    """Tokens generated for each sequence."""
    batch_size: Annotated[int, Field(ge=1, le=10**6)] = 1
    """Sequences processed together, over all data-parallel replicas."""
    shared_prefix_tokens: Annotated[int, Field(ge=0, le=10**8)] = 0
    """Leading prompt tokens whose keys and values are already cached: they cost no prefill compute."""
    prefill_chunk_tokens: Tokens | None = None
    """Prefill in chunks of this many tokens per sequence; whole prompt at once when absent."""
    prefill_tokens_per_step: Annotated[int, Field(ge=0, le=10**7)] = 0
    """Prefill tokens of other requests that ride along with each decode step (mixed batches)."""
    speculation: Speculation | None = None
    """Speculative decoding; off when absent."""

    @model_validator(mode="after")
    def _prefix_fits(self) -> Self:
        if self.shared_prefix_tokens >= self.prompt_tokens:
            raise ValueError(
                f"`shared_prefix_tokens` {self.shared_prefix_tokens} must be below "
                f"`prompt_tokens` {self.prompt_tokens}"
            )
        return self


class Parallelism(Settings):
    """How a model is spread over devices; the number of devices is the product, expert excepted."""

    tensor: Annotated[int, Field(ge=1, le=4096)] = 1
    """Tensor parallelism: every matrix is cut over this many devices."""
    pipeline: Annotated[int, Field(ge=1, le=4096)] = 1
    """Pipeline parallelism: layers are spread over this many stages. A local target puts each stage on a
    device of this machine, which is how it runs a model that one device cannot hold."""
    expert: Annotated[int, Field(ge=1, le=4096)] = 1
    """Expert parallelism: experts are spread over this many devices of the tensor x data group."""
    data: Annotated[int, Field(ge=1, le=4096)] = 1
    """Replicas of the model, each with its share of the sequences."""
    micro_batches: Annotated[int, Field(ge=1, le=4096)] = 1
    """Pieces a step is cut into to fill the pipeline."""
    sequence_parallel: bool = False
    """Norms and residuals work on a share of the tokens within the tensor group."""
    overlap: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of communication time hidden behind compute; an assumption, shown as such."""
    devices_per_node: Annotated[int, Field(ge=1, le=4096)] = 8
    """Devices joined by the device's own link; groups larger than this use `node_link`."""
    node_link: Literal["infiniband-400g", "infiniband-200g", "ethernet-100g"] = "infiniband-400g"
    """Network between nodes, per device."""

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.tensor * self.pipeline * self.data
