"""What catalogue files said when they were last read, by their content, and whatever else takes long to make.

Reading YAML with positions takes some 10 ms a file; a command that names a dozen devices would spend most of
its time on it. The scripts of a report take two seconds to join. Values are kept under the hash of what they
were made from in the user's cache folder, so an edited file is simply read again. Nothing depends on the
cache: what cannot be read or written is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from engine import __version__


def recall(data: bytes) -> dict[str, Any] | None:
    """The values of a file with this content, or None when they are not remembered."""
    try:
        found = json.loads(_place(data).read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def remember(data: bytes, values: dict[str, Any]) -> None:
    """Keep the values of a file with this content."""
    place = _place(data)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    with contextlib.suppress(OSError, ValueError):
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
        draft.replace(place)


def _place(data: bytes) -> Path:
    name = hashlib.sha256(data).hexdigest()
    return _folder() / f"catalogue-{__version__}" / f"{name}.json"


def _folder() -> Path:
    """The user's cache folder of this program, as each system has it."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "llm-experiment-engine"
