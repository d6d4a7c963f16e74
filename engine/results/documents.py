"""The texts of a run folder: what was asked, what it resolved to, the plan, and where it ran."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.errors import StoreError
from engine.plan.document import plan_document, resolved_experiment

if TYPE_CHECKING:
    from engine.plan.compile import Plan
    from engine.results.store import ResultStore

EXPERIMENT: Final = "experiment.yaml"
RESOLVED: Final = "resolved.yaml"
PLAN: Final = "plan.json"
ENVIRONMENT: Final = "environment.json"
_MOST_SESSIONS: Final = 100
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")
_WORDS: Final = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def write_documents(store: ResultStore, plan: Plan, *, text: str | None) -> None:
    """Write the spec as it was written (when there is a text), as it resolved, and the plan."""
    if text is not None:
        store.write_document(EXPERIMENT, text)
    store.write_document(RESOLVED, yaml_text(resolved_experiment(plan)))
    store.write_document(PLAN, json_text(plan_document(plan)))


def sessions(folder: Path) -> list[dict[str, Any]]:
    """Every run that did something in this folder, oldest first; empty when that is not known."""
    try:
        found = read_json(folder / ENVIRONMENT).get("sessions")
    except StoreError:
        return []  # results stand without it; the next run sets a damaged record aside
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def write_session(store: ResultStore, session: Mapping[str, Any]) -> None:
    """Add a run to the record, or bring the entry with the same `id` up to date."""
    known = sessions(store.folder)
    path = store.folder / ENVIRONMENT
    if not known and path.exists():
        path.replace(path.with_name(ENVIRONMENT + ".damaged"))
    others = [s for s in known if s.get("id") != session["id"]]
    kept = [*others[-_MOST_SESSIONS:], dict(session)]
    store.write_document(ENVIRONMENT, json_text({"format": 1, "sessions": kept}))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON document of a run folder; raises `StoreError` when it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as err:
        raise StoreError(
            f"`{path}` cannot be read: {err}", hint="`engine run` with the same spec writes it again"
        ) from err
    if not isinstance(found, dict):
        raise StoreError(f"`{path}` is not what was written", hint="`engine run` writes it again")
    return found


def json_text(data: Mapping[str, Any]) -> str:
    """JSON for files: indented, strict, ending in a line break."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def yaml_text(data: Mapping[str, Any]) -> str:
    """Plain data as block YAML, ending in a line break."""
    return "\n".join(_block(data)) + "\n"


def _block(data: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Lines of block YAML; any JSON scalar is a YAML 1.2 scalar, so texts are quoted where in doubt."""
    for key, value in data.items():
        name = key if _PLAIN_KEY.match(key) and key.lower() not in _WORDS else _scalar(key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _block(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
            yield f"{indent}{name}:"
            for item in value:
                yield from _item(item, indent + "  ")
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _item(value: Any, indent: str) -> Iterator[str]:
    if not isinstance(value, Mapping) or not value:
        yield f"{indent}- {_scalar(value)}"
        return
    first, *rest = _block(value, indent + "  ")
    yield f"{indent}- {first.strip()}"
    yield from rest


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
