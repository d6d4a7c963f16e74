"""The child in which a user's templates run: JSON in, JSON out, nothing else within reach."""

from __future__ import annotations

import json
import sys
from typing import Any


def render(templates: dict[str, str], report: dict[str, Any], *, most: int) -> dict[str, str]:
    """Each template rendered with `report`; raises what Jinja raises, `ValueError` for too long a text."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # No loader: a template cannot include a file, not even its neighbour.
    environment = ImmutableSandboxedEnvironment(autoescape=True, undefined=StrictUndefined)
    found: dict[str, str] = {}
    room = most
    for name, text in templates.items():
        pieces: list[str] = []
        for piece in environment.from_string(text).generate(report=report):
            room -= len(piece)
            if room < 0:
                raise ValueError(f"`{name}.html`: sections make more than {most:,} characters")
            pieces.append(piece)
        found[name] = "".join(pieces)
    return found


def _limit(memory_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # no such limit on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


def _main() -> int:
    from jinja2 import TemplateError

    given = json.loads(sys.stdin.buffer.read())
    _limit(given["memory"])
    try:
        answer = render(given["templates"], given["report"], most=given["most"])
    except TemplateError as err:
        line = getattr(err, "lineno", None)
        sys.stderr.write(f"{type(err).__name__}{f' in line {line}' if line else ''}: {err}\n")
        return 1
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as err:
        sys.stderr.write(f"{type(err).__name__}: {err}\n")
        return 1
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
