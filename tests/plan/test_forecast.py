"""What a plan says will stand in the way, before anything is run."""

from engine.plan import point
from engine.plan.compile import compile_plan
from engine.plan.forecast import Because, forecast
from engine.plan.view import plan_as_text
from tests.plan.specs import device, swept

# The tiny model admits 4,096 tokens and keeps 2 (K, V) * 2 layers * 2 heads * 16 wide * 2 B = 256 B a token.
# The workload adds 256 output tokens unless it says otherwise.
AXES = {"workload.prompt_tokens": [1000, 4000, 4096], "workload.batch_size": [1, 1_000_000]}


def test_points_beyond_the_context_are_counted_apart_from_those_that_do_not_fit():
    plan = compile_plan(swept(axes=AXES))
    outlook = forecast(plan, {})
    assert [(group.points, group.where) for group in outlook.unfit] == [(3, "tiny plain on board")]
    assert outlook.beyond == [Because(2, "up to 4,352 tokens where tiny admits 4,096")]
    text = plan_as_text(plan, outlook)
    assert "  !         2  beyond the model's context\n" in text
    assert "            2    up to 4,352 tokens where tiny admits 4,096\n" in text


def test_devices_with_one_model_share_a_line():
    plan = compile_plan(swept(axes={**AXES, "hardware": [device(), device(name="other")]}))
    assert forecast(plan, {}).beyond == [Because(4, "up to 4,352 tokens where tiny admits 4,096")]


def test_a_plan_is_the_same_in_pieces_of_any_size(monkeypatch):
    drop = [{"when": {"workload.prompt_tokens": 4000, "workload.batch_size": 1}, "because": "a hole"}]

    def read():
        plan = compile_plan(swept(axes=AXES, drop=drop))
        columns = [block.grid.columns()["prompt_tokens"].tolist() for block in plan.blocks]
        return columns, plan.dropped, plan.fingerprint, forecast(plan, {})

    whole = read()
    monkeypatch.setattr(point, "_PIECE_POINTS", 2)
    assert read() == whole
