"""Every file in `tests/bad_specs/` against the message beside it, word for word.

After a deliberate change of words, `python -m tests.spec.test_bad_specs` writes the messages anew: read the
difference before committing it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from engine.errors import SpecError
from engine.spec.document import read_document, validate
from engine.spec.experiment import Experiment
from engine.spec.hardware import Hardware
from engine.spec.kinds import Kind, field_kind, kind_of
from engine.spec.model import Model
from engine.spec.quantization import Quantization
from engine.spec.render import render
from engine.spec.settings import Settings

FOLDER = Path(__file__).resolve().parents[1] / "bad_specs"
SPECS = sorted(FOLDER.glob("*.yaml"))


def shown(path: Path) -> str:
    """What a user in the spec's folder would read."""
    with pytest.raises(SpecError) as caught:
        validate(read_document(path.name), Experiment)
    assert caught.value.exit_code == 2
    return render(caught.value.problems, subject=path.name) + "\n"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_says_what_is_wrong(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(FOLDER)
    assert shown(path) == path.with_suffix(".txt").read_text(encoding="utf-8")


def test_every_message_has_its_spec():
    assert [path.stem for path in SPECS] == [path.stem for path in sorted(FOLDER.glob("*.txt"))]
    assert len(SPECS) > 70


def test_nine_mistakes_are_nine_problems(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(FOLDER)
    assert "9 problems in nine_mistakes.yaml; nothing was run." in shown(FOLDER / "nine_mistakes.yaml")


def sections_of(kind: Kind) -> Iterator[type[BaseModel]]:
    """Every settings class below a kind, through lists, mappings and unions."""
    for member in kind.members:
        yield from sections_of(member)
    if kind.item is not None:
        yield from sections_of(kind.item)
    if kind.model is not None:
        yield kind.model
        for field in kind.model.model_fields.values():
            yield from sections_of(field_kind(field))


@pytest.mark.parametrize("root", [Experiment, Hardware, Model, Quantization])
def test_every_section_is_closed_and_frozen(root: type[Settings]):
    sections = set(sections_of(kind_of(root)))
    assert root in sections
    if root is Experiment:
        assert {"LiveSettings", "LocalTarget", "Drop", "Range", "Objective", "Rope"} <= {
            section.__name__ for section in sections
        }
    for section in sections:
        assert issubclass(section, Settings)
        assert section.model_config.get("extra") == "forbid"
        assert section.model_config.get("frozen") is True


if __name__ == "__main__":
    os.chdir(FOLDER)
    for spec in SPECS:
        spec.with_suffix(".txt").write_text(shown(spec), encoding="utf-8")
