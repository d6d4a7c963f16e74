"""Settings of live benchmarks: real inference, in this process or over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.spec.quantity import PerSecond, Seconds
from engine.spec.settings import Settings


class LocalTarget(Settings):
    """A model inside the measuring process (transformers)."""

    kind: Literal["local"]
    """Run the model here."""
    weights: str = "random"
    """`random`, a folder, or a hub name."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run; `auto` takes an accelerator when there is one."""


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


class Load(Settings):
    """How requests arrive."""

    pattern: Literal["closed", "constant", "poisson"] = "closed"
    """`closed` keeps a number of requests in flight; the others start requests at a rate."""
    concurrency: Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(min_length=1)] = [1]
    """Requests in flight, one measurement each."""
    rate: PerSecond | None = None
    """Requests per second for open patterns."""


class LiveSettings(Settings):
    """Measure real inference and put it beside the prediction."""

    kind: Literal["live"]
    """Measure real inference."""
    target: Annotated[LocalTarget | HttpTarget, Field(discriminator="kind")]
    """What to measure."""
    load: Load = Load()
    """How requests arrive."""
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    """Measurements of each point; intervals come from them."""
    time_limit: Seconds = 600.0
    """A task that takes longer is stopped and recorded as failed."""
