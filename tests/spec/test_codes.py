"""Every code a problem may carry is explained, and nothing else is."""

import ast
import re
from collections.abc import Iterator

from engine.spec.codes import CODES
from tests.source_tree import ROOT

MAKERS = {
    "AmbiguousScalar", "Problem", "UnitError", "_Rule", "_Said", "_complain", "_stop", "complain",
    "problem_at",
}  # fmt: skip
CODE = re.compile(r"[a-z]+(-[a-z]+)*")
# Built from a name, so that no literal shows it.
COMPOSED = {"unknown-hardware", "unknown-model", "unknown-quantization"}


def used() -> Iterator[str]:
    """Codes given by name or among the first arguments of what makes problems."""
    for folder in ("spec", "plan"):
        for path in (ROOT / "engine" / folder).glob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call):
                    yield from _codes(call)


def _codes(call: ast.Call) -> Iterator[str]:
    maker = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    named = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
    for node in [*named, *(call.args[:2] if maker in MAKERS else [])]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
            yield node.value


def test_every_code_is_explained():
    assert sorted(set(used()) - set(CODES)) == []


def test_nothing_unused_is_explained():
    in_text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "engine").rglob("*.py"))
    unused = [code for code in CODES if in_text.count(f'"{code}"') < 2 and code not in COMPOSED]
    assert unused == []


def test_explanations_are_sentences():
    for code, text in CODES.items():
        assert CODE.fullmatch(code)
        assert text[0].isupper() or text[0] in '`"', code
        assert text.endswith("."), code
