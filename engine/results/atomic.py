"""Files that are either whole or absent, and write failures that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from engine.errors import StoreError

TEMPORARY: Final = ".tmp"
"""Ending of a file that is being written; nothing ever reads one."""

_CAUSES: Final = {
    errno.ENOSPC: ("no space is left", "free some space and run again: what is finished is kept"),
    errno.EDQUOT: ("the quota is used up", "free some space and run again: what is finished is kept"),
    errno.EACCES: ("permission is denied", "make the folder writable, or choose another with `--runs`"),
    errno.EPERM: ("permission is denied", "make the folder writable, or choose another with `--runs`"),
    errno.EROFS: ("the file system is read-only", "choose a writable folder with `--runs`"),
    errno.EIO: ("the disk reports an error", "check the disk, then run again: what is finished is kept"),
}


class Disk:
    """The few calls that change files; a test puts a failing one in its place."""

    def write(self, path: Path, pieces: Iterable[bytes | memoryview]) -> None:
        """Make a new file and see it safely on disk."""
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    def rename(self, source: Path, target: Path) -> None:
        """Put a file in the place of another, in one step."""
        source.replace(target)

    def sync_folder(self, folder: Path) -> None:
        """See the names in a folder safely on disk."""
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def make_folder(self, folder: Path) -> None:
        """Make a folder and its parents where they are missing."""
        folder.mkdir(parents=True, exist_ok=True)


def temporary_name(target: Path) -> Path:
    """A name beside `target` that no other process uses."""
    return target.with_name(f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}{TEMPORARY}")


def write_temporary(target: Path, pieces: Iterable[bytes | memoryview], *, disk: Disk) -> Path:
    """The temporary file that holds the new content of `target`; raises `StoreError`."""
    draft = temporary_name(target)
    try:
        disk.write(draft, pieces)
    except OSError as err:
        discard(draft)
        raise write_failed(target, err) from err
    return draft


def put_in_place(draft: Path, target: Path, *, disk: Disk) -> None:
    """Give a temporary file its name, durably; raises `StoreError` and leaves the old file."""
    try:
        disk.rename(draft, target)
        disk.sync_folder(target.parent)
    except OSError as err:
        discard(draft)
        raise write_failed(target, err) from err


def write_whole(target: Path, content: str | bytes, *, disk: Disk | None = None) -> None:
    """Write a file so that a kill leaves the old one or the new one; raises `StoreError`."""
    disk = disk or Disk()
    data = content.encode() if isinstance(content, str) else content
    put_in_place(write_temporary(target, [data], disk=disk), target, disk=disk)


def discard(path: Path) -> None:
    """Remove a temporary file if it is there; what cannot be removed is removed by a later run."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def write_failed(path: Path, err: OSError) -> StoreError:
    """The error for a write to `path` that the system refused."""
    reason, hint = _CAUSES.get(err.errno or 0, (err.strerror or str(err), "what is finished is kept"))
    return StoreError(f"cannot write `{path}`: {reason}", hint=hint, errno=err.errno)
