"""Which parameters an estimate uses, and what is said about them."""

import pytest

from engine.errors import CatalogError
from engine.perfmodel.arithmetic import SCALAR
from engine.perfmodel.forms import Amount, kernel_time_s
from engine.perfmodel.parameter_sets import choose
from engine.spec.calibration import Calibration
from engine.spec.catalog import catalog_files, load_calibrations, load_hardware, parsed_file

H100, A100, H200 = (load_hardware(name) for name in ("h100-sxm-80gb", "a100-sxm-80gb", "h200-sxm"))


def shipped() -> dict[str, Calibration]:
    found = {}
    for name, path in catalog_files("calibration").items():
        entry = parsed_file("calibration", path)
        assert isinstance(entry, Calibration)
        found[name] = entry
    return found


def test_a_device_uses_its_own_sets_vllm_first() -> None:
    chosen = choose("auto", H100, shipped())
    assert chosen is not None
    assert chosen.name == "h100-sxm-80gb-vllm-0.24.0"
    assert not chosen.transferred
    assert chosen.notes == ()
    gemm, fp8 = chosen.law("gemm", "bf16"), chosen.law("gemm", "fp8")
    assert gemm is not None
    assert gemm.origin == "h100-sxm-80gb-vllm-0.24.0"
    # What the first set lacks comes from another engine on the same device.
    assert fp8 is not None
    assert fp8.origin == "h100-sxm-80gb-trtllm-1.3.0rc20"
    assert [devices for devices, _ in chosen.all_reduce] == [2, 4, 8]


def test_a_named_set_comes_first() -> None:
    chosen = choose("h100-sxm-80gb-trtllm-1.3.0rc20", H100, shipped())
    assert chosen is not None
    law = chosen.law("gemm", "bf16")
    assert law is not None
    assert law.origin == "h100-sxm-80gb-trtllm-1.3.0rc20"


def test_a_device_of_the_same_generation_borrows_with_a_wider_band() -> None:
    chosen = choose("auto", H200, shipped())
    assert chosen is not None
    assert chosen.transferred
    assert chosen.notes == ("transferred from `h100-sxm-80gb`: nothing was measured on this device",)
    own, borrowed = choose("auto", H100, shipped()), chosen.law("gemm", "bf16")
    law = own.law("gemm", "bf16") if own is not None else None
    assert law is not None
    assert borrowed is not None
    assert (law.widened, borrowed.widened) == (1.0, 1.3)


def test_attention_that_was_not_measured_comes_from_a_sister_device() -> None:
    l40s, sets = load_hardware("l40s"), shipped()
    measured = sets["a100-sxm-80gb-vllm-0.14.0"]
    own = measured.model_copy(
        update={
            "device_name": l40s.name,
            "device": "l40s",
            "architecture": l40s.architecture,
            "operators": [fit for fit in measured.operators if fit.operator == "gemm"],
        }
    )
    chosen = choose("auto", l40s, {**sets, "mine": own})
    assert chosen is not None
    assert (chosen.name, chosen.transferred) == ("mine", False)
    assert chosen.notes == (
        "attention is transferred from `h100-sxm-80gb`: it was not measured on this device",
    )
    laws = {kind: chosen.law(kind, "bf16") for kind in ("gemm", "prefill_attention", "decode_attention")}
    found = {
        kind: (law.origin, law.transferred, law.widened) for kind, law in laws.items() if law is not None
    }
    assert found == {
        "gemm": ("mine", False, 1.0),
        "prefill_attention": ("h100-sxm-80gb-vllm-0.24.0", True, 1.4),
        "decode_attention": ("h100-sxm-80gb-vllm-0.24.0", True, 1.5),
    }
    # Parameters of whole requests hold for all kernels alike, attention too.
    whole = own.model_copy(update={"operators": [own.operators[0].model_copy(update={"ranges": {}})]})
    shared = choose("auto", l40s, {**sets, "mine": whole})
    assert shared is not None
    assert shared.notes == ()
    law = shared.law("decode_attention", "bf16")
    assert law is not None
    assert law.origin == "mine"


def test_another_vendor_has_the_bound_alone() -> None:
    assert choose("auto", load_hardware("mi300x"), shipped()) is None


def test_none_is_none() -> None:
    assert choose("none", H100, shipped()) is None


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(CatalogError) as caught:
        choose("h100-sxm-80gb-vllm-0.25", H100, shipped())
    assert "there is no parameter set `h100-sxm-80gb-vllm-0.25`" in str(caught.value)
    assert caught.value.hint == "did you mean `h100-sxm-80gb-vllm-0.24.0`?"
    with pytest.raises(CatalogError) as caught:
        choose("h100-sxm-80gb-trtlm", H100, shipped())
    assert caught.value.hint == "did you mean `h100-sxm-80gb-trtllm-1.3.0rc20`?"


def test_kinds_that_nobody_measured_stand_in_and_widen() -> None:
    chosen = choose("auto", A100, shipped())
    assert chosen is not None
    experts, gemm = chosen.law("experts", "bf16"), chosen.law("gemm", "bf16")
    assert experts is not None
    assert gemm is not None
    assert experts.parameters == gemm.parameters
    assert experts.widened == pytest.approx(1.4 * gemm.widened)


def test_collectives_of_an_odd_size_take_the_nearest() -> None:
    chosen = choose("auto", H100, shipped())
    assert chosen is not None
    six, four = chosen.collective(6), chosen.collective(4)
    assert six is not None
    assert four is not None
    assert six.parameters == four.parameters
    assert six.widened > four.widened


def test_only_sets_that_may_matter_are_read() -> None:
    assert {s.device for s in load_calibrations([H100]).values()} == {"h100-sxm-80gb"}
    assert {s.device for s in load_calibrations([H200]).values()} == {"a100-sxm-80gb", "h100-sxm-80gb"}
    assert load_calibrations([load_hardware("mi300x")]) == {}


def test_shipped_sets_say_where_they_come_from_and_how_good_they_are() -> None:
    for name, found in shipped().items():
        assert found.source, name
        assert load_hardware(found.device).name == found.device_name
        for fit in found.operators:
            assert min(fit.rows / 12, fit.sites / 3) >= 1, name
            assert 0.8 <= fit.held_out.coverage <= 1, name
            assert fit.bands[-1].low < fit.bands[-1].high, name


def test_a_kernel_that_is_slower_in_a_model_keeps_its_launch() -> None:
    sets = shipped()
    name = "h100-sxm-80gb-vllm-0.24.0"
    slower = [f.model_copy(update={"slower_in_model": 2.0}) for f in sets[name].operators]
    plain = choose(name, H100, {name: sets[name]})
    slowed = choose(name, H100, {name: sets[name].model_copy(update={"operators": slower})})
    assert plain is not None
    assert slowed is not None
    amount = Amount(3e-5, 4e-5, 2.5, 4096.0)
    for kind in ("gemm", "prefill_attention", "decode_attention"):
        before, after = plain.law(kind, "bf16"), slowed.law(kind, "bf16")
        assert before is not None
        assert after is not None
        launch = before.parameters.launch
        once = kernel_time_s(SCALAR, before.form, before.parameters, amount) - launch
        assert kernel_time_s(SCALAR, after.form, after.parameters, amount) - launch == pytest.approx(2 * once)
        assert after.alone == before.alone
