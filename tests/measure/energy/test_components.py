"""Components of real modules on the CPU: found in any family, caught with real inputs, run again the same."""

import pytest

from engine.measure.energy.additivity import close
from engine.measure.energy.anatomy import dissect
from engine.measure.energy.capture import CacheState, Capture
from engine.measure.energy.components import TorchWork, ablated, works_of
from engine.measure.energy.loops import LoopPlan, run_trials
from engine.measure.energy.marks import Marks
from engine.measure.energy.source import HostClock
from engine.measure.energy.trials import parts_of
from engine.spec.energy import EnergyLimits

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TINY = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def built(family: str = "llama", **changes):
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[family](**{**TINY, **changes})
    return transformers.AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="module")
def model():
    return built()


@pytest.fixture(scope="module")
def prompt():
    return torch.arange(2 * 8).reshape(2, 8) % 128


def forward(model, tokens, cache, first: int = 0):
    positions = torch.arange(first, first + tokens.shape[1]).unsqueeze(0)
    with torch.inference_mode():
        return model(input_ids=tokens, past_key_values=cache, use_cache=True, position_ids=positions).logits


def caught(model, prompt):
    """(anatomy, calls of prefill, calls of a decode step, its logits)."""
    anatomy = dissect(model)
    cache = transformers.DynamicCache(config=model.config)
    with Capture(model, anatomy) as first:
        forward(model, prompt, cache)
    with Capture(model, anatomy) as second:
        logits = forward(model, prompt[:, :1], cache, first=8)
    return anatomy, first.calls, second.calls, logits


def test_hooks_leave_the_outputs_as_they_are_to_the_last_bit(model, prompt) -> None:
    plain = transformers.DynamicCache(config=model.config)
    wanted = forward(model, prompt, plain), forward(model, prompt[:, :1], plain, first=8)
    cache = transformers.DynamicCache(config=model.config)
    anatomy = dissect(model)
    with Capture(model, anatomy), Marks(anatomy, cuda=False):
        found = forward(model, prompt, cache), forward(model, prompt[:, :1], cache, first=8)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert torch.equal(cache.layers[2].keys, plain.layers[2].keys)


def test_nothing_stays_on_the_model_afterwards(model, prompt) -> None:
    caught(model, prompt)
    with Marks(dissect(model), cuda=False):
        pass
    for module in model.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
        assert "forward" not in vars(module)
    import transformers.models.llama.modeling_llama as source

    assert source.apply_rotary_pos_emb.__name__ == "apply_rotary_pos_emb"
    assert source.ALL_ATTENTION_FUNCTIONS["sdpa"].__name__ == "sdpa_attention_forward"


def test_every_component_of_a_gated_model_is_found(model, prompt) -> None:
    _, prefill, decode, _ = caught(model, prompt)
    counts: dict[tuple[str, str | None], int] = {}
    for call in decode:
        counts[call.component, call.parent] = counts.get((call.component, call.parent), 0) + 1
    each = {"q", "k", "v", "o", "rope", "context"}
    assert counts == {
        ("step", None): 1, ("embedding", "step"): 1, ("rotary", "step"): 1, ("lm_head", "step"): 1,
        ("layer", "step"): 3, ("attention", "step"): 3, ("ffn", "step"): 3,
        ("norm", "step"): 7,  # two a layer and the last one
        **{(name, "attention"): 3 for name in each},
        **{(name, "ffn"): 3 for name in ("gate", "up", "act", "down")},
    }  # fmt: skip
    assert len(prefill) == len(decode)
    shapes = {call.component: call.args[0].shape for call in prefill if call.component in ("q", "down")}
    assert shapes == {"q": (2, 8, 32), "down": (2, 8, 64)}  # real activations of the prompt


@pytest.mark.parametrize(
    "family, more, wanted",
    [
        ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}, {"router", "experts"}),
        ("qwen3", {"head_dim": 8}, {"q_norm", "k_norm", "gate"}),
        ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 3}, {"qkv", "up", "context"}),
        ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, {"q", "up", "down", "context"}),
        ("phi3", {"pad_token_id": 0}, {"qkv", "gate_up", "down"}),
    ],
)
def test_other_families_need_no_code_of_their_own(family: str, more: dict, wanted: set[str], prompt) -> None:
    model = built(family, **more)
    _, _, decode, _ = caught(model, prompt)
    found = {call.component for call in decode}
    assert wanted <= found
    assert {"step", "attention", "embedding", "lm_head", "norm"} <= found


def test_a_caught_call_gives_the_same_again_and_again(model, prompt) -> None:
    _, _, decode, logits = caught(model, prompt)
    whole = next(call for call in decode if call.component == "step")
    with torch.inference_mode():
        for _ in range(3):
            # The cache would grow by a token each time if it were not put back.
            assert torch.equal(whole.run().logits, logits)
    attention = [call for call in decode if call.component == "attention"]
    with torch.inference_mode():
        first, second = attention[1].run()[0], attention[1].run()[0]
    assert torch.equal(first, second)


def test_a_cache_is_put_back_as_it_was(model, prompt) -> None:
    cache = transformers.DynamicCache(config=model.config)
    forward(model, prompt, cache)
    state = CacheState(cache, None)
    forward(model, prompt[:, :1], cache, first=8)
    assert cache.get_seq_length() == 9
    state.restore()
    assert cache.get_seq_length() == 8


def test_loops_visit_every_layer_and_count_each(model, prompt) -> None:
    _, _, decode, _ = caught(model, prompt)
    with torch.inference_mode():
        works = works_of(decode, phase="decode", granularity="component", cuda=False)
    by_name = {work.component: work for work in works}
    assert works[0].component == "step"
    assert (by_name["ffn"].count, by_name["ffn"].visits) == (3, 3)
    assert set(by_name["ffn"].share) == {0, 1, 2}
    assert sum(by_name["ffn"].share.values()) == pytest.approx(1.0)
    assert by_name["lm_head"].share == {}
    with torch.inference_mode():
        layers = works_of(decode, phase="decode", granularity="layer", cuda=False)
    assert [(w.component, w.layer) for w in layers if w.component == "layer"] == [
        ("layer", 0), ("layer", 1), ("layer", 2)
    ]  # fmt: skip


def test_heads_that_share_keys_are_timed_apart(model, prompt) -> None:
    _, _, decode, _ = caught(model, prompt)
    with torch.inference_mode():
        works = works_of(decode, phase="decode", granularity="component", cuda=False, heads=True)
        heads = [work for work in works if work.parent == "context"]
        # Four query heads, two of them to each key head; each sums to what the whole attention gives.
        assert [work.component for work in heads] == ["heads 0-1", "heads 2-3"]
        context = next(call for call in decode if call.component == "context")
        whole = context.run()[0]
        query, key, value = context.args[1:4]
        part = context.function(context.args[0], query[:, :2], key[:, :1], value[:, :1], *context.args[4:],
                                **context.kwargs)[0]  # fmt: skip
    assert torch.allclose(part, whole[:, :, :2], atol=1e-6)


def test_plain_attention_is_timed_head_by_head(prompt) -> None:
    from engine.measure.energy.components import _heads

    torch.manual_seed(4)
    eager = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, vocab_size=64,
                                 num_attention_heads=4, num_key_value_heads=2, attn_implementation="eager")
    ).eval()  # fmt: skip
    _, _, decode, _ = caught(eager, prompt)
    contexts = [call for call in decode if call.component == "context"]
    with torch.inference_mode():
        parts = _heads({("context", "attention", None): contexts})
        assert list(parts) == ["0", "1", "2", "3"]
        assert [len(calls) for calls in parts.values()] == [2, 2, 2, 2]  # one a layer
        whole = contexts[0].run()[0]
        # The heads side by side are what the whole attention gives, whichever key head they share.
        beside = torch.cat([calls[0].run()[0] for calls in parts.values()], dim=2)
    assert torch.allclose(beside, whole, atol=1e-6)


def test_attention_that_cannot_be_cut_is_left_whole(model, prompt) -> None:
    from engine.measure.energy.components import _heads

    _, _, decode, _ = caught(model, prompt)
    call = next(call for call in decode if call.component == "context")

    def with_sinks(*args, **kwargs):
        raise RuntimeError("the size of tensor a must match")

    call.function = with_sinks
    with torch.inference_mode():
        assert _heads({("context", "attention", None): [call]}) == {}


def test_inputs_beyond_the_room_for_them_are_those_of_another_layer(model, prompt) -> None:
    anatomy = dissect(model)
    with torch.inference_mode():
        cache = transformers.DynamicCache(config=model.config)
        with Capture(model, anatomy) as every:
            wanted = forward(model, prompt, cache)
        cache = transformers.DynamicCache(config=model.config)
        with Capture(model, anatomy, budget_bytes=8_000) as some:
            found = forward(model, prompt, cache)
        assert torch.equal(found, wanted)  # looking changes nothing
        assert (every.borrowed, len(some.calls)) == (0, len(every.calls))
        assert some.borrowed > 0
        for one in some.calls:
            one.run()

    def held(calls) -> int:
        tensors = {id(t): t.numel() * t.element_size() for c in calls for t in c.args
                   if isinstance(t, torch.Tensor) and t.is_floating_point()}  # fmt: skip
        return sum(tensors.values())

    assert held(some.calls) < 0.7 * held(every.calls)


def test_leaving_a_component_out_does_not_compute_it(model, prompt) -> None:
    anatomy, _, decode, logits = caught(model, prompt)
    ran = []
    with torch.inference_mode():
        works = ablated(decode, anatomy, phase="decode", cuda=False, first=50)
        assert [work.component for work in works] == ["without attention", "without ffn"]
        handles = [place.module.register_forward_hook(lambda *_: ran.append("down"))
                   for place in anatomy.of("down")]  # fmt: skip
        works[1].wait(works[1].launch(1))
        assert ran == []
        works[0].wait(works[0].launch(1))
        assert len(ran) == 3
        for handle in handles:
            handle.remove()
        whole = next(call for call in decode if call.component == "step")
        assert torch.equal(whole.run().logits, logits)  # the model is whole again


class Stopwatch:
    """A clock that only work moves."""

    now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 0.0)


def test_work_on_the_processor_has_the_time_it_takes() -> None:
    # 1 ms a turn of four layers: 0.25 ms each, however few chunks there are.
    clock = Stopwatch()

    def turn() -> None:
        clock.now_s += 1e-3

    work = TorchWork("ffn", "decode", "step", None, count=4, visits=4, order=0, turn=turn)
    plan = LoopPlan(0.1, 1.0, 2, 0.5, 0.01, 0.02, 0.0, 0.1, metered=False)
    loops = run_trials([work], plan, clock, trials=3, seed=1)
    (part,) = parts_of(loops, period_s=0.1, limits=EnergyLimits(), idle=None)
    assert part.time.mean == pytest.approx(0.25e-3, rel=1e-9)


def test_time_alone_needs_no_sensor(model, prompt) -> None:
    _, _, decode, _ = caught(model, prompt)
    plan = LoopPlan(0.03, 1.0, 2, 0.5, 0.003, 0.003, 0.0, 0.1, metered=False)
    with torch.inference_mode():
        works = works_of(decode, phase="decode", granularity="component", cuda=False)
        loops = run_trials(works, plan, HostClock(), trials=2, seed=1)
    parts = parts_of(loops, period_s=0.1, limits=EnergyLimits(), idle=None)
    assert [part.component for part in parts][:3] == ["step", "embedding", "rotary"]
    assert all(part.time.mean > 0 for part in parts)
    assert all(part.energy is None for part in parts)
    found, checks = close(parts, tolerance=0.03)
    assert {check.of for check in checks} == {"time"}
    rest = next(part for part in found if part.component == "unattributed")
    whole = parts[0].time.mean
    counted = sum(part.time.mean * part.count for part in parts if part.parent == "step")
    assert rest.time.mean == pytest.approx(whole - counted)


def test_marks_tell_when_each_layer_ran(model, prompt) -> None:
    anatomy = dissect(model)
    with Marks(anatomy, cuda=False) as marks:
        forward(model, prompt, transformers.DynamicCache(config=model.config))
        events = marks.events("prefill")
    layers = [event for event in events if event.kind == "layer"]
    assert [event.layer for event in layers] == [0, 1, 2]
    for layer in layers:
        inside = [e for e in events if e.kind == "component" and e.layer == layer.layer]
        assert {e.component for e in inside} == {"attention", "ffn", "norm"}
        assert sum(e.seconds for e in inside) <= layer.seconds
        assert all(layer.begin_s <= e.begin_s <= e.end_s <= layer.end_s for e in inside)
