"""What the code never does, because specs, logs, model folders and endpoints may be hostile."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source_tree import ROOT, modules

MODULES = modules()
TEMPLATES = sorted(path for path in (ROOT / "templates").rglob("*") if path.is_file())

# Loaders that run code found in data; PyYAML, because its plain `load` is one and ruamel replaces it.
BANNED_MODULES = {
    "cloudpickle", "cPickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve", "yaml",
}  # fmt: skip
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_METHODS = {"read_pickle", "to_pickle", "getoutput", "getstatusoutput", "popen", "system"}
# Keyword -> the only value it may be given in the source.
ONLY_VALUE = {
    "allow_pickle": False,
    "autoescape": True,
    "shell": False,
    "trust_remote_code": False,
    "verify": True,
    "weights_only": True,
}
UNESCAPED = re.compile(r"\|\s*safe\b|autoescape\s+false")


def offences(source: str) -> list[str]:
    """Everything in `source` that the gates refuse, each with its line."""
    return [
        f"{node.lineno}: {what}"
        for node in ast.walk(ast.parse(source))
        if hasattr(node, "lineno")
        for what in _offence(node)
    ]


def _offence(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Assert():
            yield "assert statement"
        case ast.ExceptHandler(type=None):
            yield "bare except"
        case ast.Raise(exc=ast.Name(id=name) | ast.Call(func=ast.Name(id=name))) if "NotImplemented" in name:
            yield name
        case ast.Import(names=names):
            yield from (alias.name for alias in names if alias.name.split(".")[0] in BANNED_MODULES)
        case ast.ImportFrom(module=str(module)):
            full = {module.split(".")[0], *(a.name for a in node.names if module == "ruamel")}
            yield from sorted(full & BANNED_MODULES)
        case ast.Call(func=ast.Name(id=name)) if name in BANNED_CALLS:
            yield f"{name}()"
        case ast.Call(func=ast.Attribute(attr=name, value=owner)):
            if name in BANNED_METHODS or (name == "load" and ast.unparse(owner) == "torch"):
                yield f".{name}()"
            if name == "load" and isinstance(owner, ast.Name) and owner.id == "yaml":
                yield "yaml.load()"
        case ast.keyword(arg="typ", value=ast.Constant(value="unsafe")):
            yield "typ='unsafe'"
        case ast.keyword(arg=str(name), value=value) if name in ONLY_VALUE:
            if not (isinstance(value, ast.Constant) and value.value is ONLY_VALUE[name]):
                yield f"{name}={ast.unparse(value)}"
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value in ("allow_pickle", "trust_remote_code"):
                    yield from _offence(ast.keyword(arg=key.value, value=value))


@pytest.mark.parametrize("module", MODULES)
def test_the_source_keeps_to_the_gates(module: str) -> None:
    assert offences(MODULES[module].read_text(encoding="utf-8")) == []


def test_templates_escape_everything() -> None:
    found = [str(path) for path in TEMPLATES if UNESCAPED.search(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("module", MODULES)
def test_no_template_text_in_code_switches_escaping_off(module: str) -> None:
    assert UNESCAPED.search(MODULES[module].read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("assert x", "1: assert statement"),
        ("try:\n    f()\nexcept:\n    pass", "3: bare except"),
        ("raise NotImplementedError", "1: NotImplementedError"),
        ("raise NotImplementedError('later')", "1: NotImplementedError"),
        ("import pickle", "1: pickle"),
        ("from yaml import load", "1: yaml"),
        ("from ruamel import yaml", "1: yaml"),
        ("eval(text)", "1: eval()"),
        ("exec(text)", "1: exec()"),
        ("yaml.load(text)", "1: yaml.load()"),
        ("YAML(typ='unsafe')", "1: typ='unsafe'"),
        ("os.system(line)", "1: .system()"),
        ("torch.load(path)", "1: .load()"),
        ("frame.to_pickle(path)", "1: .to_pickle()"),
        ("run(line, shell=True)", "1: shell=True"),
        ("load(name, trust_remote_code=flag)", "1: trust_remote_code=flag"),
        ("options = {'trust_remote_code': True}", "1: trust_remote_code=True"),
        ("Environment(autoescape=False)", "1: autoescape=False"),
        ("Client(verify=False)", "1: verify=False"),
    ],
)
def test_an_offence_is_found(source: str, found: str) -> None:
    assert found in offences(source)


@pytest.mark.parametrize(
    "source",
    ["re.compile(text)", "json.load(file)", "from ruamel.yaml import YAML", "f(trust_remote_code=False)"],
)
def test_decent_code_passes(source: str) -> None:
    assert offences(source) == []


@pytest.mark.parametrize("text", ["{{ x|safe }}", "{{ x | safe }}", "{% autoescape false %}"])
def test_an_unescaped_template_is_found(text: str) -> None:
    assert UNESCAPED.search(text)


def test_package_metadata_names_no_address() -> None:
    # Where packages come from is the business of a user's own pip settings.
    for name in ("constraints.txt", "pyproject.toml", "Makefile"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert re.search(r"https?://|index-url|find-links|\+cpu", text) is None, name


def test_every_pin_is_a_name_and_a_version() -> None:
    lines = Path(ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+==[0-9a-z.]+", pin)] == []
    assert "torch==2.13.0" in pins
