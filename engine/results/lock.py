"""One writer per run folder: a lock that dies with its holder, and says who that is."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine.errors import StoreBusy, StoreError
from engine.results.atomic import write_failed
from engine.results.environment import command_line

FILE: Final = ".lock"


class FolderLock:
    """Holds a folder for this process until `release`; the kernel releases it when the process dies."""

    def __init__(self, path: Path, *, what: str = "", command: Sequence[str] | None = None) -> None:
        """Take the lock at `path`; raises `StoreBusy` naming the holder, where another process has it."""
        import fcntl

        self._path = path
        name = what or str(path.parent)
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as err:
            raise write_failed(path, err) from err
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            holder = _read(self._handle)
            os.close(self._handle)
            if err.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _busy(name, holder) from err
            raise StoreError(
                f"cannot lock `{name}`: {err.strerror}",
                hint="keep runs on a file system that supports locks",
            ) from err
        self._note(command)

    def _note(self, command: Sequence[str] | None) -> None:
        holder = {
            "pid": os.getpid(),
            "host": platform.node(),
            "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            "command": command_line(command),
        }
        # Only a note for people: the lock itself is the kernel's, so a full disk costs the name, no more.
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        """Let others in; a second call does nothing."""
        if self._handle >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


def holder_of(path: Path) -> dict[str, Any] | None:
    """Who holds a lock now, as the holder noted it; None when nobody does."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        holder = _read(handle)
        # A lock that was let go holds no note. Asking the kernel means taking the lock for an instant, in
        # which a run could not begin: done only where a note says that somebody may have it.
        if not holder or _is_dead(holder):
            return None
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return holder
    finally:
        os.close(handle)
    return None


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is gone."""
    pid = holder.get("pid")
    if holder.get("host") != platform.node() or not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # somebody else's process
        return False
    return False


def _read(handle: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(handle, 65_536, 0))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _busy(name: str, holder: dict[str, Any]) -> StoreBusy:
    if not holder:
        return StoreBusy(f"`{name}` is in use by another run", hint="wait for it to end")
    return StoreBusy(
        f"`{name}` is in use by process {holder.get('pid')} on {holder.get('host')} "
        f"since {holder.get('since')}: {holder.get('command')}",
        hint="wait for it to end, or choose another folder with `--runs`",
        **{key: holder.get(key) for key in ("pid", "host", "since", "command")},
    )
