"""Names lead to files: the user's first, then what ships; unknown ones come back with suggestions."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import CatalogError
from engine.spec import catalog
from engine.spec.catalog import (
    Kind,
    content_digest,
    entries,
    find,
    load_hardware,
    load_model,
    load_quantization,
    packaged_root,
)
from engine.spec.document import Document

SHIPPED = "looked in the shipped catalogue"
MINE = "name: mine\naliases: [Our_Card]\npeak: {bf16: 10 TFLOP/s}\nmemory_bandwidth: 1 TB/s\n"


def own(root: Path, text: str = MINE, *, name: str = "mine.yaml", folder: str = "hardware") -> Path:
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["h100-sxm-80gb", "h100-sxm", "h100_sxm", "H100-SXM-80GB", " h100 sxm "])
def test_a_device_answers_to_its_names(name: str) -> None:
    assert find("hardware", name) == packaged_root() / "hardware" / "h100-sxm-80gb.yaml"
    assert load_hardware(name).name == "NVIDIA H100 SXM 80GB"


def test_names_of_the_public_fact_table_still_lead_to_a_device() -> None:
    old = {"a100_80gb_sxm": "a100-sxm-80gb", "max_1550": "intel-max-1550", "h200_sxm": "h200-sxm",
           "rtx_pro_6000_bw": "rtx-pro-6000-blackwell", "b300_sxm": "b300-sxm"}  # fmt: skip
    assert {key: find("hardware", key).stem for key in old} == old


def test_the_users_file_comes_first_under_name_and_alias(tmp_path: Path) -> None:
    path = own(tmp_path, name="h100-sxm-80gb.yaml")
    assert find("hardware", "h100-sxm-80gb", search=[tmp_path]) == path
    assert find("hardware", "our-card", search=[tmp_path]) == path
    assert load_hardware("our_card", search=[tmp_path]).memory_bandwidth == 1e12
    assert load_hardware("h100-sxm-80gb").memory_bandwidth == 3.35e12


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    near, far = own(tmp_path / "near"), own(tmp_path / "far")
    roots = [tmp_path / "near", tmp_path / "far"]
    assert find("hardware", "mine", search=roots) == near
    assert find("hardware", "mine", search=roots[::-1]) == far


def test_models_may_lie_in_specs_or_beside_the_spec(tmp_path: Path) -> None:
    shipped = (packaged_root() / "specs/models/llama-3.1-8b.yaml").read_text(encoding="utf-8")
    own(tmp_path, shipped, name="a.yaml", folder="specs/models")
    own(tmp_path / "specs", shipped, name="b.yaml", folder="models")
    assert load_model("a", search=[tmp_path]).hidden_size == 4096
    assert load_model("b", search=[tmp_path / "specs"]).hidden_size == 4096


def test_a_model_answers_to_its_name_on_the_hub() -> None:
    assert load_model("meta-llama/Llama-3.1-8B").name == "llama-3.1-8b"


@pytest.mark.parametrize(
    ("kind", "name", "message", "hint"),
    [
        ("hardware", "h100", "there is no device `h100`",
         "`h100` is several: `h100-nvl-94gb`, `h100-pcie-80gb`, `h100-sxm-80gb`; " + SHIPPED),
        ("hardware", "h100-sxm-80g", "there is no device `h100-sxm-80g`",
         "did you mean `h100-sxm-80gb`?; looked in the shipped catalogue"),
        ("hardware", "qqqqqq", "there is no device `qqqqqq`",
         "looked in the shipped catalogue; `engine catalog list` shows all"),
        ("quantization", "bf61", "there is no number format `bf61`",
         "did you mean `bf16`?; looked in the shipped catalogue"),
        ("model", "llama-3.1-8", "there is no model `llama-3.1-8`",
         "did you mean `llama-3.1-8b`?; looked in the shipped catalogue"),
    ],
)  # fmt: skip
def test_an_unknown_name_gets_a_suggestion(kind: Kind, name: str, message: str, hint: str) -> None:
    with pytest.raises(CatalogError) as caught:
        find(kind, name)
    [problem] = caught.value.problems
    assert (problem.code, problem.message, problem.hint) == (f"unknown-{kind}", message, hint)
    assert caught.value.exit_code == 2


def test_the_folders_searched_are_named(tmp_path: Path) -> None:
    own(tmp_path)
    with pytest.raises(CatalogError) as caught:
        find("hardware", "mime", search=[tmp_path])
    assert caught.value.problems[0].hint == (
        f"did you mean `mine`?; looked in `{tmp_path.resolve() / 'hardware'}`, the shipped catalogue"
    )


@pytest.mark.parametrize("name", ["../secrets", "a/b", "..", "", " ", "..\\x", "/etc/passwd", "x" * 201])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_hardware(name)
    assert caught.value.problems[0].code == "bad-name"
    assert caught.value.problems[0].message.endswith("is not the name of a device")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    secret = own(tmp_path / "elsewhere", folder=".")
    folder = tmp_path / "project" / "hardware"
    folder.mkdir(parents=True)
    (folder / "stolen.yaml").symlink_to(secret)
    with pytest.raises(CatalogError, match="is a link that leads out of"):
        load_hardware("stolen", search=[tmp_path / "project"])


def test_a_broken_file_is_located(tmp_path: Path) -> None:
    path = own(tmp_path, MINE.replace("1 TB/s", "1 Tb/s"))
    with pytest.raises(CatalogError) as caught:
        load_hardware("mine", search=[tmp_path])
    [problem] = caught.value.problems
    assert (problem.file, problem.line) == (str(path), 4)


def test_an_entry_is_parsed_once_and_again_after_an_edit(tmp_path: Path) -> None:
    path = own(tmp_path)
    first, digest = load_hardware("mine", search=[tmp_path]), content_digest(path)
    assert load_hardware("mine", search=[tmp_path]) is first
    own(tmp_path, MINE.replace("1 TB/s", "2.5 TB/s"))
    assert load_hardware("mine", search=[tmp_path]).memory_bandwidth == 2.5e12
    assert content_digest(path) != digest


def test_naming_six_devices_reads_six_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    read: list[str] = []

    def noted(path: Path, *, data: bytes) -> Document:
        read.append(path.stem)
        return real(path, data=data)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # nothing is remembered there
    monkeypatch.setattr(catalog, "read_document", noted)
    catalog._parsed.cache_clear()
    names = ["a100-sxm-80gb", "b200-sxm", "h100-sxm-80gb", "h200-sxm", "l40s", "mi300x"]
    for name in names:
        load_hardware(name)
    load_quantization("fp8")
    assert read == [*names, "fp8"]


real = catalog.read_document


def test_a_list_shows_the_numbers_one_chooses_by() -> None:
    listed = {entry.name: entry for entry in entries("hardware")}
    assert listed["h100-sxm-80gb"].summary == (
        "989.4 TFLOP/s bf16, 3.35 TB/s, 80 GB HBM3, 700 W, confidence A"
    )
    assert listed["snapdragon-8-elite"].summary.startswith("no dense peak, 84.8 GB/s")
    assert listed["document-a100"].summary.startswith("19.5 TFLOP/s at any precision")
    assert "h100-sxm" in listed["h100-sxm-80gb"].aliases
    formats = {entry.name: entry.summary for entry in entries("quantization")}
    assert formats["w4a16-g128"] == (
        "weights 4 bit (0.519531 B each), activations 16 bit, cache 16 bit (2 B)"
    )
    models = {entry.name: entry.summary for entry in entries("model")}
    assert models["llama-3.1-8b"] == "8.03 B parameters, 32 layers, hidden 4096, heads 32/8"


def test_a_list_survives_a_broken_file(tmp_path: Path) -> None:
    own(tmp_path, "name: mine\n")
    listed = {entry.name: entry for entry in entries("hardware", search=[tmp_path])}
    assert (listed["mine"].readable, listed["mine"].shipped) == (False, False)
    assert listed["l4"].shipped


@pytest.mark.parametrize("name", ["./missing/config.json", "/nowhere", "~/config.json", "a\0.json"])
def test_a_path_to_a_model_that_is_not_there(name: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_model(name)
    assert caught.value.problems[0].message == f"there is no model file at `{name}`"


def test_the_catalogue_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom engine.spec.catalog import load_hardware\nload_hardware('l4')\n"
        "heavy = {'numpy', 'pandas', 'torch', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
