"""Settings of the performance model: the conventions that every prediction states."""

from typing import Annotated, Literal

from pydantic import Field

from engine.spec.quantity import Bytes, PerSecond, Seconds
from engine.spec.settings import Settings


class Routing(Settings):
    """How tokens spread over experts."""

    law: Literal["uniform", "zipf", "given"] = "uniform"
    """`uniform` touches the most experts; `zipf` is skewed; `given` uses `probabilities`."""
    exponent: Annotated[float, Field(ge=0, le=5)] = 0.6
    """Exponent of the Zipf law."""
    probabilities: list[Annotated[float, Field(ge=0, le=1)]] | None = None
    """Chance that a token uses each expert; they add up to the experts per token."""


class AnalyticalSettings(Settings):
    """Predict every point from operator counts and the device's data sheet."""

    kind: Literal["analytical"]
    """Predict with the performance model."""
    calibration: Annotated[str, Field(min_length=1, max_length=200)] = "auto"
    """`auto` (the nearest parameter set, and the bound alone where none comes near), `none` (the data-sheet
    bound) or the name of a parameter set in hardware/calibrations/."""
    arrivals: PerSecond | None = None
    """Requests that arrive per second (Poisson): adds a queueing estimate where the engine's terms are
    known; `batch_size` is then the largest batch the server runs."""
    waves: Annotated[int, Field(ge=1)] | None = None
    """Requests of each user in a benchmark that starts all users at once and keeps their number: the mean
    `serving_ttft_s` then holds the queue of that start. Absent: users that came long ago. Has no meaning
    beside `arrivals`."""
    causal: bool = True
    """Prefill attention computes only the lower triangle; off counts the full rectangle."""
    attention: Literal["streamed", "fused", "unfused"] = "streamed"
    """`streamed`: scores, softmax and context are rows of their own, scores stay on chip. `fused`: one row.
    `unfused`: scores are written to and read from memory and masked entries are computed."""
    fused_qkv: bool = False
    """Query, key and value projections read their input once instead of three times."""
    fused_gate_up: bool = False
    """Gate and up projections read their input once instead of twice."""
    lm_head: Literal["last", "all"] = "last"
    """Prefill computes logits for the last token of each sequence, or for every token."""
    mla: Literal["auto", "absorbed", "expanded"] = "auto"
    """Form of latent attention; `auto` takes the faster one per phase and says which."""
    rope_table: bool = False
    """Count reading the table of sines and cosines (at the `rope` bits); it stays on chip when off."""
    router_softmax: bool = False
    """Count the five operations per token and expert of the router's softmax."""
    routing: Routing = Routing()
    """How tokens spread over experts."""
    expert_tile: Annotated[int, Field(ge=1)] | None = None
    """Rows of a grouped matrix-multiply tile; expert rows are padded up to it. Not padded when absent."""
    kv_block_tokens: Annotated[int, Field(ge=1)] = 1
    """Tokens per cache block; each sequence's cache is rounded up to whole blocks."""
    kv_layout: Literal["ideal", "full"] = "ideal"
    """`ideal` keeps only the window in windowed layers; `full` allocates the whole context in every layer."""
    step_tokens: Annotated[int, Field(ge=1)] = 8192
    """Most prompt tokens whose activations are live at once; engines cut larger prefills into such steps.
    Sizes memory only: `workload.prefill_chunk_tokens` also changes the time."""
    link_latency: Seconds = 1e-6
    """Latency of one step of a collective between devices of a host: an assumption, no sheet gives it."""
    node_latency: Seconds = 5e-6
    """Latency of one step of a collective between hosts: an assumption, no sheet gives it."""
    reserve: Bytes = 0.0
    """Memory set aside on each device for framework, graphs and communication buffers."""
    memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of device memory that may be used."""
    operators: bool = False
    """Store the operator table of every point; otherwise it is made on demand for the points shown."""
