"""The package's own source as data, for the tests that hold it to its floors and gates."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "engine"


@dataclass(frozen=True)
class Import:
    """One module that another names, and where."""

    module: str
    line: int
    lazy: bool  # inside a function, or only for type checkers: it costs nothing at start-up


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {name_of(path.relative_to(ROOT)): path for path in files if "_data" not in path.parts}


def name_of(path: Path) -> str:
    """`engine/spec/__init__.py` -> `engine.spec`."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, known: frozenset[str] = frozenset()) -> list[Import]:
    """Every import of `source`: plain, from, for type checkers only, inside functions, and by name.

    `from engine import units` is an import of `engine.units` where that is among the `known` modules.
    """
    return list(_walk(ast.parse(source), known, lazy=False))


def _walk(node: ast.AST, known: frozenset[str], *, lazy: bool) -> Iterator[Import]:
    for module in _named(node, known):
        yield Import(module, node.lineno, lazy)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, known, lazy=lazy or _defers(node))


def _named(node: ast.AST, known: frozenset[str]) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module), level=0, names=names):
            full = [f"{module}.{alias.name}" for alias in names]
            return sorted({name if name in known else module for name in full})
        case ast.ImportFrom():
            return ["." * node.level + (node.module or "")]
        case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
            return [name]
        case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(name)), *_]):
            return [name]
    return []


def _defers(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
