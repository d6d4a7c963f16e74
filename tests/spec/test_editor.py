"""What a user sees in an editor: the real yaml-language-server against the committed schemas.

Each file in `tests/editor/broken/` has its marks beside it, word for word; no file in `tests/editor/good/`
and nothing that ships has any. After a deliberate change, `python -m tests.spec.test_editor` writes the marks
anew: read the difference before committing it.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.editor.server import Diagnostic, Server, missing
from tests.source_tree import ROOT

BROKEN = sorted((ROOT / "tests/editor/broken").glob("*.yaml"))
GOOD = sorted((ROOT / "tests/editor/good").glob("*.yaml"))
SPECS = sorted((ROOT / "specs").glob("*.yaml"))
CATALOG = sorted(
    path
    for folder in ("hardware", "specs/models", "specs/quantization")
    for path in (ROOT / folder).glob("*.yaml")
)
BAD_SPECS = sorted((ROOT / "tests/bad_specs").glob("*.yaml"))

# Lines that the loader refuses and no schema can: what a single value does not show, and where YAML itself
# leaves more open than a spec does.
KINDS = {"analytical", "live", "energy", "run_folder", "training", "device_probe"}

GAPS = {
    "include_itself": ({2}, "other files are not read"),
    "value_credentials": ({8}, "a key in an address has the right form"),
    "value_rule": ({8, 9}, "rules over several keys"),
    "value_rule_model": ({7}, "rules over several keys"),
    "value_rule_objective": ({8, 9, 10, 11}, "rules over several keys"),
    "value_rule_objectives": ({6}, "rules over several keys"),
    "value_rule_preset": ({9, 13, 15}, "rules over several keys"),
    "value_rule_scoring": ({6}, "rules over several keys"),
    "value_types": ({8}, "2048.0 is a whole number in JSON Schema"),
    "value_unit_negative": ({11}, "1e300 PB has the right form"),
    "yaml_alias_bomb": ({7}, "the server does not count"),
    "yaml_directive": ({2}, "allowed in YAML"),
    "yaml_duplicate_anchor": ({7}, "allowed in YAML"),
    "yaml_empty": ({1}, "an empty file is where completion starts"),
    "yaml_indented_too_far": ({7}, "marked on the line before"),
    "yaml_invisible": ({6, 7}, "allowed in YAML"),
    "yaml_key_not_text": ({11}, "allowed in YAML"),
    "yaml_merge_outside_x": ({8}, "allowed in YAML; the merged key is marked"),
    "yaml_merge_twice": ({12}, "allowed in YAML; the merged keys are marked"),
    "yaml_not_finite": ({6}, "a number in YAML"),
    "yaml_second_document": ({8}, "allowed in YAML; the second document is marked"),
    "yaml_self_alias": ({6}, "allowed in YAML"),
    "yaml_unquoted_date": ({6}, "text in YAML 1.2"),
}

pytestmark = [pytest.mark.node, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


def started() -> Server:
    """A server that takes every YAML file without a schema of its own for an experiment."""
    return Server({(ROOT / "schemas/experiment.v1.json").as_uri(): ["*.yaml"]})


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with started() as running:
        yield running


def marks_in(running: Server, paths: list[Path]) -> dict[Path, list[Diagnostic]]:
    texts = {path.as_uri(): path.read_bytes().decode("utf-8", errors="replace") for path in paths}
    found = running.open(texts)
    return {path: found[path.as_uri()] for path in paths}


@pytest.fixture(scope="session")
def marks(server: Server) -> dict[Path, list[Diagnostic]]:
    """Every document opened at once: the server settles once instead of a hundred times."""
    return marks_in(server, [*BROKEN, *GOOD, *SPECS, *CATALOG, *BAD_SPECS])


def shown(found: list[Diagnostic]) -> str:
    return "".join(f"{mark.line}:{mark.column} {mark.message}\n" for mark in found)


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_document_is_marked_where_it_is_broken(path: Path, marks: dict[Path, list[Diagnostic]]):
    assert shown(marks[path]) == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_there_are_enough_documents():
    assert [path.stem for path in BROKEN] == [path.stem for path in sorted(BROKEN[0].parent.glob("*.txt"))]
    assert len(BROKEN) >= 25
    assert len(GOOD) >= 10


@pytest.mark.parametrize("path", [*GOOD, *SPECS], ids=lambda path: path.stem)
def test_good_document_has_no_marks(path: Path, marks: dict[Path, list[Diagnostic]]):
    assert shown(marks[path]) == ""


def test_nothing_in_the_catalogue_is_marked(marks: dict[Path, list[Diagnostic]]):
    assert {path.name: shown(marks[path]) for path in CATALOG if marks[path]} == {}


@pytest.mark.parametrize("path", BAD_SPECS, ids=lambda path: path.stem)
def test_what_the_loader_refuses_is_marked_on_the_same_line(path: Path, marks: dict[Path, list[Diagnostic]]):
    told = path.with_suffix(".txt").read_text(encoding="utf-8")
    refused = {int(line) for line in re.findall(rf"^{re.escape(path.name)}:(\d+):\d+: ", told, re.MULTILINE)}
    unmarked = refused - {mark.line for mark in marks[path]}
    assert unmarked == GAPS.get(path.stem, (set(), ""))[0]


@pytest.mark.parametrize(
    "name, wrong, fix",
    [
        ("key_root", "hardwar", "hardware"),
        ("key_workload", "prompt_token", "prompt_tokens"),
        ("key_inline_model", "vocab_sise", "vocab_size"),
        ("key_inline_quantization", "kv_cach", "kv_cache"),
        ("key_measurement", "repeat", "repeats"),
        ("axis_path", "workload.batch_sise", "workload.batch_size"),
        ("tie_row", "workload.output_token", "workload.output_tokens"),
        ("drop_rule", "hardwar", "hardware"),
        ("scoring_require", "ttft_ms", "ttft_s"),
        ("hardware_file", "vendr", "vendor"),
    ],
)
def test_misspelt_key_comes_with_the_right_one(
    name: str, wrong: str, fix: str, marks: dict[Path, list[Diagnostic]]
):
    found = marks[ROOT / f"tests/editor/broken/{name}.yaml"]
    mark = next(mark for mark in found if mark.message == f"Property {wrong} is not allowed.")
    assert mark.end_column - mark.column == len(wrong)
    assert fix in mark.fixes
    assert wrong not in mark.fixes


@pytest.mark.parametrize(
    "name, line, fixes",
    [
        ("kind_unknown", 8, KINDS),
        ("kind_of_target", 9, {"local", "openai"}),
        ("key_report", 11, {"html", "pdf", "xlsx"}),
        ("version_newer", 3, {"1"}),
    ],
)
def test_wrong_choice_comes_with_all_the_right_ones(
    name: str, line: int, fixes: set[str], marks: dict[Path, list[Diagnostic]]
):
    found = marks[ROOT / f"tests/editor/broken/{name}.yaml"]
    assert [set(mark.fixes) for mark in found if mark.line == line] == [fixes]


def test_misspelt_metric_comes_with_every_metric(marks: dict[Path, list[Diagnostic]]):
    mark = marks[ROOT / "tests/editor/broken/scoring_metric.yaml"][0]
    assert {"ttft_s", "tpot_s", "output_tokens_per_s"} <= set(mark.fixes)


HOVERED = """\
version: 1
name: hovered
model: llama-3.1-8b
hardware: h100-sxm-80gb
quantization: {kv_cache: 8}
workload: {prompt_tokens: 512}
sweep:
  axes:
    workload.batch_size: [1, 8]
    quantization.kv_cache: [8, 16]
    hardware: [a100-sxm-80gb]
  drop:
    - when: {parallelism.tensor: 2}
      because: too many
  sample: {points: 5, ranges: {workload.output_tokens: {low: 1, high: 5}}}
measurements:
  - kind: live
    repeats: 3
    target: {kind: local}
  - kind: analytical
    reserve: 2 GB
scoring:
  objectives: [{metric: tpot_s}]
  require: {ttft_s: "<= 1 s"}
include: bases/h100.yaml
x-home: {}
"""


@pytest.mark.parametrize(
    "at, title, text",
    [
        ("name", "name", "Name of the experiment and of its run folder: letters, digits, `.`, `_`, `-`."),
        ("workload:", "workload", "Tokens in, tokens out, sequences at a time."),
        ("prompt_tokens", "prompt_tokens", "Prompt length of each sequence."),
        ("kv_cache: 8", "kv_cache", "Bits of cached keys and values."),
        ("sweep", "sweep", "Values to vary."),
        (
            "workload.batch_size",
            "workload.batch_size",
            "Sequences processed together, over all data-parallel replicas.",
        ),
        ("quantization.kv_cache", "quantization.kv_cache", "Bits of cached keys and values."),
        (
            "parallelism.tensor",
            "parallelism.tensor",
            "Tensor parallelism: every matrix is cut over this many devices.",
        ),
        ("workload.output_tokens", "workload.output_tokens", "Tokens generated for each sequence."),
        ("measurements", "measurements", "What to do with every point."),
        (
            "reserve",
            "reserve",
            "Memory set aside on each device for framework, graphs and communication buffers.",
        ),
        ("x-home", "x-", "Not read: a home for YAML anchors."),
        (
            "include",
            "include",
            (
                "Files to start from, relative to this one. Mappings are merged, later files and this one "
                "win, lists are replaced."
            ),
        ),
    ],
)
def test_hover_shows_the_key_and_what_it_means(at: str, title: str, text: str, server: Server):
    title = re.sub(r"([_*])", r"\\\1", title)
    assert hovered(server, at)[:2] == [f"#### {title}", text]


def hovered(server: Server, at: str) -> list[str]:
    """The paragraphs shown over the first place where a text stands."""
    uri = "file:///editor/hovered.yaml"
    server.show(uri, HOVERED)
    before = HOVERED[: HOVERED.index(at)]
    text = server.hover(uri, before.count("\n") + 1, len(before) - before.rfind("\n") + 1)
    return text.split("\n\n")


def test_the_hovered_document_has_no_marks(server: Server):
    uri = "file:///editor/unmarked.yaml"
    assert server.open({uri: HOVERED}) == {uri: []}


def test_hover_over_a_catalogue_name_shows_its_numbers(server: Server):
    title, numbers, meaning, _source = hovered(server, "h100-sxm-80gb")
    needed = "A name of the catalogue, or the device itself. Not needed where only logs are read."
    assert (title, meaning) == ("#### hardware", needed)
    assert numbers.startswith("NVIDIA H100 SXM 80GB: ")
    assert "3.35 TB/s" in numbers


def test_hover_over_a_metric_begins_with_its_definition(server: Server):
    title, meaning, heading, choices = hovered(server, "tpot_s")[:4]
    assert (title, heading) == ("#### metric", "Allowed Values:")
    assert meaning == "Name of a metric; `engine explain` lists them."
    assert choices.startswith("* `tpot_s`: Time per output token. ")


def test_hover_over_a_kind_explains_every_kind(server: Server):
    choices = hovered(server, "live")[3]
    assert "* `live`: Measure real inference and put it beside the prediction.\n" in choices
    assert (
        "* `analytical`: Predict every point from operator counts and the device's data sheet.\n" in choices
    )


def completed(server: Server, text: str) -> dict[str, str]:
    """What is offered where `@` stands."""
    before = text[: text.index("@")]
    uri = "file:///editor/completed.yaml"
    server.show(uri, text.replace("@", ""))
    return server.complete(uri, before.count("\n") + 1, len(before) - before.rfind("\n"))


@pytest.mark.parametrize(
    "text, labels",
    [
        ("measurements:\n  - kind: @\n", KINDS),
        ("measurements:\n  - kind: live\n    target:\n      kind: @\n", {"local", "openai"}),
        ("report:\n  page: @\n", {"A4", "Letter"}),
        ("measurements:\n  - kind: analytical\n    causal: @\n", {"true", "false"}),
        ("sweep:\n  axes:\n    model.norm: [@]\n", {"rms", "layer"}),
        ("sweep:\n  axes:\n    parallelism.sequence_parallel: [@]\n", {"true", "false"}),
    ],
)
def test_completion_offers_exactly_the_legal_values(text: str, labels: set[str], server: Server):
    assert set(completed(server, text)) == labels


@pytest.mark.parametrize(
    "text, labels",
    [
        ("@", {"new experiment", "version", "name", "model", "hardware", "measurements", "sweep"}),
        ("model: @\n", {"llama-3.1-8b", "mixtral-8x7b"}),
        ("hardware: @\n", {"h100-sxm-80gb", "rtx-4090"}),
        ("hardware:\n  @\n", {"name", "peak", "memory", "memory_bandwidth"}),
        ("quantization: @\n", {"bf16", "w4a16-g128"}),
        ("workload:\n  speculation:\n    @\n", {"tokens", "acceptance", "draft_model"}),
        ("sweep:\n  axes:\n    @\n", {"model", "workload.batch_size", "quantization.kv_cache"}),
        ("sweep:\n  axes:\n    hardware:\n      - @\n", {"h100-sxm-80gb", "rtx-4090"}),
        ("sweep:\n  tie:\n    - @\n", {"workload.prompt_tokens", "parallelism.tensor"}),
        ("sweep:\n  drop:\n    - when:\n        @\n", {"workload.prompt_tokens", "hardware"}),
        ("sweep:\n  sample:\n    ranges:\n      @\n", {"workload.prompt_tokens", "workload.batch_size"}),
        ("measurements:\n  - @\n", {"kind"}),
        ("measurements:\n  - kind: live\n    @\n", {"target", "load", "repeats"}),
        ("scoring:\n  objectives:\n    - metric: @\n", {"ttft_s", "output_tokens_per_s"}),
        ("scoring:\n  require:\n    @\n", {"ttft_s", "output_tokens_per_s"}),
    ],
)
def test_completion_offers_what_belongs_there(text: str, labels: set[str], server: Server):
    assert labels <= set(completed(server, text))


def test_completion_inserts_what_is_valid(server: Server):
    assert completed(server, "@")["version"] == "version: 1"
    assert completed(server, "scoring:\n  require:\n    @\n")["ttft_s"] == "ttft_s: ${1:<= 500 ms}"
    assert completed(server, "scoring:\n  @\n")["objectives"].startswith("objectives:\n  - metric: $1")
    snippet = completed(server, "@")["new experiment"]
    uri = "file:///editor/snippet.yaml"
    assert server.open({uri: re.sub(r"\$\{\d+:([^}]*)\}", r"\1", snippet)}) == {uri: []}


def test_only_counts_of_the_workload_can_be_sampled(server: Server):
    offered = completed(server, "sweep:\n  sample:\n    ranges:\n      @\n")
    assert all(label.startswith("workload.") for label in offered)


if __name__ == "__main__":
    with started() as running:
        for document, found in marks_in(running, BROKEN).items():
            document.with_suffix(".txt").write_text(shown(found), encoding="utf-8")
