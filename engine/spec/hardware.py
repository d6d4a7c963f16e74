"""What a device is: a data sheet with a source for every number."""

from typing import Annotated, Literal

from pydantic import Field

from engine.spec.quantity import (
    Bytes,
    BytesPerSecond,
    Celsius,
    FlopsPerSecond,
    Hertz,
    JoulesPerByte,
    JoulesPerFlop,
    UsdPerHour,
    Watts,
)
from engine.spec.settings import Settings

Precision = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4"]


class Peaks(Settings):
    """Dense matrix peaks per precision (accumulating in fp32 on NVIDIA). A precision left out is not
    offered by the device or not published; it is never zero."""

    fp32: FlopsPerSecond | None = None
    """Peak in fp32 without tensor cores: the vector rate on most GPUs."""
    tf32: FlopsPerSecond | None = None
    """Dense tf32 tensor peak."""
    fp16: FlopsPerSecond | None = None
    """Dense fp16 peak."""
    bf16: FlopsPerSecond | None = None
    """Dense bf16 peak."""
    fp8: FlopsPerSecond | None = None
    """Dense fp8 peak."""
    int8: FlopsPerSecond | None = None
    """Dense int8 peak (operations per second)."""
    fp4: FlopsPerSecond | None = None
    """Dense fp4 peak."""
    int4: FlopsPerSecond | None = None
    """Dense int4 peak (operations per second)."""


class Link(Settings):
    """The connection between devices of one host."""

    name: str
    """For example NVLink4."""
    bandwidth: BytesPerSecond
    """As published; `basis` says what it counts."""
    basis: Literal["bidirectional total per device", "per direction per device"]
    """Vendors publish both; without the basis the number means nothing."""


class Waiver(Settings):
    """A lint rule this device breaks for a real reason."""

    rule: str
    """Name of the rule, as `engine catalog lint` prints it."""
    because: Annotated[str, Field(min_length=8)]
    """Why the numbers are right all the same."""


class PublishedRange(Settings):
    """A number on which good sources disagree."""

    field: str
    """The field, such as `memory_bandwidth` or `peak.fp4`."""
    values: Annotated[list[str], Field(min_length=2, max_length=10)]
    """What the sources say, each with its unit; the field lies between the smallest and the largest."""
    because: Annotated[str, Field(min_length=8)]
    """Which sources, and why they differ."""


class EnergyCoefficients(Settings):
    """First-order energy model: static power plus energy per byte moved and per operation."""

    static_power: Watts
    """Power while the device is on and waits."""
    per_byte: JoulesPerByte
    """Energy per byte of device memory traffic."""
    per_flop: JoulesPerFlop
    """Energy per floating-point operation."""
    source: str = "written into the spec"
    """Where the coefficients come from and how far to trust them."""


class Hardware(Settings):
    """A device: dense peaks, memory, links and power, with their sources."""

    name: Annotated[str, Field(min_length=1, max_length=120)]
    """What reports call this device."""
    aliases: Annotated[list[str], Field(max_length=50)] = []
    """Further names under which the catalogue finds this device."""
    vendor: str = "custom"
    """Who makes it."""
    architecture: str | None = None
    """Generation of the chip, for example Hopper; `engine catalog lint` knows what each one offers."""
    year: Annotated[int, Field(ge=1990, le=2100)] | None = None
    """Year of introduction."""
    peak: Peaks
    """Dense peak rates per precision."""
    memory: Bytes | None = None
    """Device memory as marketed; absent where it depends on the host (CPUs)."""
    memory_kind: str | None = None
    """For example HBM3."""
    usable_memory: Bytes | None = None
    """What the driver reports; fit checks use this first."""
    memory_bandwidth: BytesPerSecond
    """Peak device-memory bandwidth."""
    l2: Bytes | None = None
    """Last-level on-chip memory, save for a cache in front of the memory."""
    l2_bandwidth: BytesPerSecond | None = None
    """Bandwidth of that level, where known."""
    memory_side_cache: Bytes | None = None
    """Cache between that level and the memory, as AMD's Infinity Cache; absent where there is none."""
    sm_count: Annotated[int, Field(ge=1)] | None = None
    """Streaming multiprocessors, compute units or cores, in the vendor's terms."""
    boost_clock: Hertz | None = None
    """Highest sustained clock as published."""
    link: Link | None = None
    """Connection to other devices of the host, PCIe where there is nothing faster; absent when unknown."""
    pcie: str | None = None
    """Host interface, for example PCIe5 x16."""
    power: Watts | None = None
    """Board or module power limit as marketed."""
    slowdown_temperature: Celsius | None = None
    """Temperature at which the device throttles; read it from the device where possible."""
    price: UsdPerHour | None = None
    """Price of one device-hour; cost metrics are absent without it."""
    energy: EnergyCoefficients | None = None
    """Coefficients of the first-order energy estimate; energy is absent without them."""
    confidence: Literal["A", "B", "C"] = "C"
    """A: several sources agree. B: one source or a derivation. C: recalled or third party; verify."""
    source: str | None = None
    """Where the numbers come from."""
    notes: str | None = None
    """What a reader should know."""
    ranges: list[PublishedRange] = []
    """Numbers on which good sources disagree, with what each says."""
    waivers: list[Waiver] = []
    """Lint rules this device breaks, each with its reason."""
