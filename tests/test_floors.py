"""The house is built in floors (see CONTRIBUTING.md): a module imports only from floors below its own."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.source_tree import PACKAGE, Import, imports, modules

# From the ground up. Those on one line are neighbours: they never import each other.
FLOORS = (
    ("engine", "errors", "units", "metrics"),
    ("spec",),
    ("perfmodel",),
    ("plan",),
    ("results",),
    ("measure", "score"),
    ("run", "report"),
    ("commands",),
    ("cli",),
    ("__main__", "testing"),
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# Single modules, not packages: on the ground floor they may lean on each other.
GROUND = 0

KINDS = ("analytical", "device_probe", "energy", "live", "run_folder", "training")
# The one module that knows all kinds.
REGISTRY = ("engine.measure", "engine.measure.registry")

# `engine.analyze` in a notebook: the package hands it out when somebody asks, never at import.
FRONT_DOOR = ("engine", "engine.commands.analysis")

# Slower to load than everything `engine check` needs together.
HEAVY = {
    "duckdb", "httpx", "matplotlib", "numpy", "openpyxl", "pandas", "pyarrow", "pynvml", "ray",
    "scipy", "starlette", "tokenizers", "torch", "transformers", "uvicorn", "uvloop", "vl_convert",
    "weasyprint",
}  # fmt: skip
# Arrays are the whole point of these two, and `engine check` loads neither.
NUMPY_ROOMS = ("perfmodel", "plan")

MODULES = modules()
KNOWN = frozenset(MODULES)


def room(module: str) -> str:
    """The part of the house `module` belongs to: `engine.spec.model` -> `spec`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def kind(module: str) -> str | None:
    """The measurement kind `module` belongs to, if any."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[1] == "measure" and parts[2] in KINDS else None


def complaints(module: str, found: Iterable[Import]) -> list[str]:
    """Why `module` may not import what it does, one line each."""
    return [f"{module}:{one.line} {why}" for one in found if (why := complaint(module, one.module))]


def complaint(module: str, target: str) -> str | None:
    if target.startswith("."):
        return f"imports `{target}` relatively"
    if target.split(".")[0] != "engine":
        return None
    if (module, target) == FRONT_DOOR:
        return None
    here, there = room(module), room(target)
    if there not in FLOOR:
        return f"imports `{target}`, which stands on no floor"
    if here != there and FLOOR[there] > FLOOR[here]:
        return f"imports `{target}` from a floor above"
    if here != there and FLOOR[there] == FLOOR[here] != GROUND:
        return f"imports its neighbour `{target}`"
    if kind(target) and kind(module) != kind(target) and here == "measure" and module not in REGISTRY:
        return f"imports the measurement kind `{target}`"
    return None


def read(module: str) -> list[Import]:
    return imports(MODULES[module].read_text(encoding="utf-8"), KNOWN)


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One chain of modules that comes back to its start, or nothing."""
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph.get(node, ())):
            if found := visit(following, [*trail, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_below(module: str) -> None:
    assert room(module) in FLOOR, f"{module} stands on no floor"
    assert complaints(module, read(module)) == []


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_load_only_inside_functions(module: str) -> None:
    early = {(one.module.split(".")[0], one.line) for one in read(module) if not one.lazy}
    allowed = {"numpy"} if room(module) in NUMPY_ROOMS else set()
    assert sorted(name for name in early if name[0] in HEAVY - allowed) == []


def test_no_module_waits_for_itself() -> None:
    graph = {name: {one.module for one in read(name) if not one.lazy} & KNOWN - {name} for name in MODULES}
    assert cycle(graph) == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_fits_in_one_head(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 600


def test_folders_are_at_most_two_deep() -> None:
    deep = {path.parent for path in MODULES.values() if len(path.relative_to(PACKAGE).parts) > 3}
    # One file a log format: the only room inside a kind of measurement.
    assert deep <= {PACKAGE / "measure" / "run_folder" / "formats"}


def test_the_whole_package_is_looked_at() -> None:
    assert {"engine", "engine.errors", "engine.spec.experiment"} <= KNOWN


# The checks themselves: each rule must be able to fail.


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("engine.spec.model", "from engine.plan.point import Point", "from a floor above"),
        ("engine.units", "import engine.spec.model", "from a floor above"),
        ("engine.score.pareto", "import engine.measure.registry", "its neighbour"),
        ("engine.report.html", "from engine.run import local", "its neighbour"),
        ("engine.measure.live.http", "from engine.measure.energy import nvml", "the measurement kind"),
        ("engine.measure.local_model", "from engine.measure import live", "the measurement kind"),
        ("engine.plan.sweep", "if TYPE_CHECKING:\n    from engine.run.local import X", "from a floor above"),
        ("engine.plan.sweep", "def f():\n    from engine.cli import main", "from a floor above"),
        ("engine.plan.sweep", "import_module('engine.report.html')", "from a floor above"),
        ("engine.plan.sweep", "importlib.import_module('engine.report.html')", "from a floor above"),
        ("engine.plan.sweep", "from . import point", "relatively"),
        ("engine.plan.sweep", "import engine.helpers", "no floor"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, why: str) -> None:
    known = frozenset({"engine.measure.live", "engine.run.local"})
    (found,) = complaints(module, imports(source, known))
    assert why in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("engine.plan.sweep", "from engine.spec.sweep import Sweep"),
        ("engine.units", "from engine.errors import UnitError"),
        ("engine.measure.live.http", "from engine.measure.live.load import Load"),
        ("engine.measure.live.http", "from engine.measure.local_model import build"),
        ("engine.measure.registry", "from engine.measure.live import measure_live"),
        ("engine.spec.model", "from pathlib import Path"),
        ("engine.commands.check", "from engine import __version__"),
    ],
)
def test_a_right_import_is_left_alone(module: str, source: str) -> None:
    assert complaints(module, imports(source)) == []


def test_lazy_imports_are_told_from_early_ones() -> None:
    source = "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    import c\nclass D:\n    import e\n"
    assert [(one.module, one.lazy) for one in imports(source)] == [
        ("a", False),
        ("b", True),
        ("c", True),
        ("e", False),
    ]


def test_a_circle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_names_of_packages_drop_init(tmp_path: Path) -> None:
    assert room("engine.spec.model") == "spec"
    assert room("engine") == "engine"
    assert kind("engine.measure.live.http") == "live"
    assert kind("engine.measure.registry") is None
