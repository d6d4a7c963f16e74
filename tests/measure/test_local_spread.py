"""A model over several devices: where layers lie, what is moved, and that nothing is computed differently.

There is one processor here: devices are pretended by a mark on every tensor, and an operation on tensors of
two of them fails as it would on two.
"""

from __future__ import annotations

import itertools
import weakref
from types import SimpleNamespace

import pytest

from engine.errors import EnvironmentMissing, MeasurementError
from engine.measure import local_spread
from engine.measure.local_spread import devices_for, pieces_of, split_layers, synchronize
from engine.measure.local_target import request_of, spread_over
from engine.spec.catalog import load_model, load_quantization
from engine.spec.live import LocalTarget
from engine.spec.model import Model
from engine.spec.workload import Parallelism

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

TWO = ("cpu", "cpu:1")
TINY = {
    "name": "tiny", "architecture": "llama", "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 96,
}  # fmt: skip


def fullest(layers, rooms, counts, first=0, last=0):
    begin, found = 0, []
    for device, count in enumerate(counts):
        own = sum(layers[begin : begin + count])
        own += first * (device == 0) + last * (device == len(counts) - 1)
        found.append(own / rooms[device])
        begin += count
    return max(found)


@pytest.mark.parametrize(
    ("layers", "rooms", "ends", "counts"),
    [
        ([10] * 4, [100, 100], (0, 0), (2, 2)),
        ([10] * 5, [100, 100], (0, 0), (3, 2)),  # earlier devices take more, as in the performance model
        ([10] * 6, [100, 50], (0, 0), (4, 2)),  # twice the room, twice the layers: 40 % each
        ([10] * 6, [100, 100], (20, 0), (2, 4)),  # 20 + 20 and 40
        ([10] * 6, [100, 100], (0, 20), (4, 2)),
        ([10, 10, 10, 90], [100, 100], (0, 0), (3, 1)),  # a large layer lies alone
        ([10] * 80, [80e9] * 4, (0, 0), (20, 20, 20, 20)),
    ],
)
def test_layers_are_split_by_the_memory_that_is_there(layers, rooms, ends, counts) -> None:
    assert split_layers(layers, rooms, first_bytes=ends[0], last_bytes=ends[1]) == counts


def test_no_other_split_leaves_more_room() -> None:
    layers, rooms = [7, 3, 9, 1, 4, 8, 2], [11.0, 5.0, 9.0]
    found = split_layers(layers, rooms, first_bytes=6, last_bytes=5)
    every = [(a, b, 7 - a - b) for a, b in itertools.product(range(1, 6), repeat=2) if a + b < 7]
    assert fullest(layers, rooms, found, 6, 5) == min(fullest(layers, rooms, c, 6, 5) for c in every)


def test_a_device_without_a_layer_is_refused() -> None:
    with pytest.raises(MeasurementError, match="2 layers cannot be spread over 3 devices"):
        split_layers([1, 1], [1.0, 1.0, 1.0])


def test_there_must_be_as_many_devices() -> None:
    assert devices_for("cpu", 1) == ("cpu",)
    with pytest.raises(EnvironmentMissing) as caught:
        devices_for("cpu", 2)
    assert caught.value.message == "the point spreads its layers over 2 devices and torch sees 1 (`cpu`)"


def test_every_device_is_waited_for(monkeypatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronize(("cuda:0", "cuda:1"))
    synchronize(("cpu",))
    assert waited == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("name", ["tensor", "data", "expert", "micro_batches"])
def test_only_whole_layers_are_spread(name: str) -> None:
    assert spread_over(Parallelism(pipeline=4)) == 4
    with pytest.raises(MeasurementError) as caught:
        spread_over(Parallelism(**{name: 2}))
    assert caught.value.message == (
        f"a local target spreads whole layers (`parallelism.pipeline`), the point asks for `{name}: 2`"
    )


def test_timing_and_metering_build_the_same_model(tmp_path) -> None:
    point = SimpleNamespace(
        combination=SimpleNamespace(
            model=Model.model_validate(TINY),
            quantization=load_quantization("w4a16-g128"),
            parallelism=Parallelism(pipeline=2),
        )
    )
    found = request_of(LocalTarget(kind="local", device="cpu"), point, folder=tmp_path, seed=7)  # type: ignore[arg-type]
    assert (found.weight_bits, found.group_size, found.dtype, found.devices, found.seed) == (
        4, 128, "bf16", 2, 7
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("llama-3.2-1b", True),
        ("llama-3.1-8b", False),
        ("opt-1.3b", True),
        ("gpt2", True),
        ("mixtral-8x7b", False),
    ],
)
def test_every_weight_lies_on_one_device_and_shared_ones_on_the_first(name: str, shared: bool) -> None:
    from transformers import AutoModelForCausalLM

    from engine.measure.local_config import transformers_config

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(transformers_config(load_model(name)))
    built.tie_weights()
    pieces = pieces_of(built)
    held = [id(p) for piece in pieces for p in piece.module.parameters()]
    assert set(held) == {id(p) for p in built.parameters()}
    head = next(piece for piece in pieces if piece.module is built.get_output_embeddings())
    assert head.last is not shared
    layers = [piece.layer for piece in pieces if piece.layer is not None]
    assert layers == list(range(built.config.num_hidden_layers))


class Places(torch.overrides.TorchFunctionMode):
    """Which pretended device each tensor lies on; results lie where their inputs do."""

    def __init__(self) -> None:
        super().__init__()
        self._at: dict[int, tuple[weakref.ref, str]] = {}
        self.moves: list[tuple[str, str]] = []

    def put(self, tensor, place: str) -> None:
        self._at[id(tensor)] = (weakref.ref(tensor), place)

    def of(self, tensor) -> str | None:
        known = self._at.get(id(tensor))
        return known[1] if known is not None and known[0]() is tensor else None

    def move(self, value, device):
        if isinstance(value, tuple):
            return tuple(self.move(one, device) for one in value)
        if not isinstance(value, torch.Tensor) or self.of(value) in (None, str(device)):
            return value
        with torch._C.DisableTorchFunction():
            copy = value.clone()
        self.moves.append((str(self.of(value)), str(device)))
        self.put(copy, str(device))
        return copy

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        places = {self.of(one) for one in _tensors((*args, *kwargs.values()))} - {None}
        if len(places) > 1:
            raise RuntimeError(f"{function} on {sorted(places)}")  # what torch says of two devices
        found = function(*args, **kwargs)
        for place in places:
            for one in _tensors((found,)):
                if self.of(one) is None:
                    self.put(one, place)
        return found


def _tensors(values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def build(devices, places=None, *, first: int = 3, **shape):
    from engine.measure.local_weights import build_random

    model = Model.model_validate(TINY | shape)
    built, placed = build_random(model, dtype=torch.float32, devices=devices, attention="eager", seed=5)
    if places is not None:
        for piece in pieces_of(built):
            second = piece.last if piece.layer is None else piece.layer >= first
            for tensor in (*piece.module.parameters(), *piece.module.buffers()):
                places.put(tensor, TWO[second])
    return built, placed


def generate(module, cache, prompts, tokens=4):
    """Logits of every step, as the loop of the engine makes them."""
    found = []
    position, ids = 0, prompts
    for _ in range(tokens):
        positions = torch.arange(position, position + ids.shape[1]).unsqueeze(0)
        with torch.inference_mode():
            out = module(input_ids=ids, past_key_values=cache, use_cache=True, position_ids=positions)
        found.append(out.logits[:, -1:])
        position += ids.shape[1]
        ids = found[-1].argmax(dim=-1)
    return torch.cat(found, dim=1)


def cache_of(module, kind: str):
    from transformers import DynamicCache, StaticCache

    config = module.config
    return StaticCache(config=config, max_cache_len=16) if kind == "static" else DynamicCache(config=config)


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize(
    ("tied", "first"), [(False, 3), (True, 2)]
)  # both tables lie on the first, or one each
def test_a_spread_model_answers_to_the_last_bit(monkeypatch, kind: str, tied: bool, first: int) -> None:
    whole, nowhere = build(("cpu",), tie_word_embeddings=tied)
    assert nowhere is None
    prompts = torch.arange(12).reshape(2, 6)
    expected = generate(whole, cache_of(whole, kind), prompts)

    places = Places()
    monkeypatch.setattr(local_spread, "_at", places.move)
    spread, placed = build(TWO, places, first=first, tie_word_embeddings=tied)
    assert placed == f"cpu layers 0 to {first - 1}, cpu:1 layers {first} to 4"
    cache = cache_of(spread, kind)
    with places:
        found = generate(spread, cache, prompts)
    assert torch.equal(found, expected)
    # Keys and values lie with their layer.
    assert [places.of(layer.keys) for layer in cache.layers] == ["cpu"] * first + ["cpu:1"] * (5 - first)
    # Each of four steps goes over with the hidden state and, once and not for each layer, two rotary angles;
    # it comes back once, with logits or with what a head needs that shares the embedding's weights.
    over, back = ("cpu", "cpu:1"), ("cpu:1", "cpu")
    assert places.moves == [over, over, over, back] * 4


def test_a_missing_move_would_be_seen(monkeypatch) -> None:
    places = Places()
    monkeypatch.setattr(local_spread, "_at", lambda value, _device: value)
    spread, _ = build(TWO, places)
    with places, pytest.raises(RuntimeError, match=r"on \['cpu', 'cpu:1'\]"):
        generate(spread, cache_of(spread, "dynamic"), torch.arange(12).reshape(2, 6))
