"""Opening files of unknown origin: encodings, binaries, links and lines without end."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from engine.errors import EngineError

HEAD_BYTES: Final = 65_536
LONGEST_LINE: Final = 1_048_576
"""Characters of a line that are looked at; no log line anybody reads is longer."""
LARGEST_DOCUMENT: Final = 64 * 2**20
"""JSON is read whole, and takes about ten times its size in memory."""
_FEWEST_BYTES: Final = 64
"""Of text between zeros that make a file worth reading."""
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Unreadable(EngineError):
    """A file that yields nothing; the reason becomes a row of the table of files."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Source:
    """A text file and enough of it to tell its format."""

    path: Path
    name: str
    """Relative to the root, with forward slashes."""
    size_bytes: int
    encoding: str
    head: str
    """The first 64 KiB."""
    tail: str
    """The last 64 KiB of a longer file."""

    @cached_property
    def sample(self) -> str:
        """Head and tail: where every format shows itself."""
        return f"{self.head}\n{self.tail}" if self.tail else self.head

    @cached_property
    def head_lines(self) -> list[str]:
        """The lines of the first 64 KiB."""
        return self.head.splitlines()

    @cached_property
    def sample_lines(self) -> list[str]:
        """The lines of head and tail."""
        return self.sample.splitlines()

    @property
    def whole(self) -> bool:
        """Whether the sample is the whole file."""
        return not self.tail

    def first_lines(self, count: int = 5) -> list[str]:
        """The first lines that are not empty."""
        return [line for line in self.head_lines[: count * 4] if line.strip()][:count]


def look(path: Path, name: str, *, root: Path) -> Source:
    """The file, opened; raises `Unreadable` with the reason when there is nothing to read."""
    size = _checked_size(path, root)
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
        tail = b""
        if size > HEAD_BYTES:
            stream.seek(max(HEAD_BYTES, size - HEAD_BYTES) & ~1)
            tail = stream.read(HEAD_BYTES)
    encoding = _encoding(head)
    wide = "utf-16" if encoding == "utf-16" else encoding
    return Source(path, name, size, encoding, _decode(head, wide), _decode_tail(tail, head, wide))


def _checked_size(path: Path, root: Path) -> int:
    try:
        if not path.resolve(strict=True).is_relative_to(root.resolve()):
            raise Unreadable("outside", "a link that leads out of the folder; copy the file instead")
        state = path.stat()
    except OSError as err:
        raise Unreadable("unreadable", f"cannot be opened: {err.strerror or err}") from err
    if not stat.S_ISREG(state.st_mode):
        raise Unreadable("not-a-file", "not a regular file")
    if not os.access(path, os.R_OK):
        raise Unreadable("unreadable", "cannot be opened: Permission denied")
    if state.st_size == 0:
        raise Unreadable("empty", "empty: zero bytes")
    return state.st_size


def _encoding(head: bytes) -> str:
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        return _wide_encoding(head)
    return _narrow_encoding(head)


def _narrow_encoding(head: bytes) -> str:
    """UTF-8, or the Windows code page where it is not; raises `Unreadable` where it is no text."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=False)
    except UnicodeDecodeError:
        if _strange(head) > len(head) // 50:
            raise Unreadable("binary", "binary, not text") from None
        return "cp1252"
    return "utf-8"


def _strange(head: bytes) -> int:
    """Control characters that no log holds."""
    return sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)


def _wide_encoding(head: bytes) -> str:
    """UTF-16 without a mark shows as a zero in every second byte of mostly Latin text.

    A block of zeros in narrow text is what a file system leaves of a log when the power goes.
    """
    zeros = (head[0::2].count(0), head[1::2].count(0))
    half = max(1, len(head) // 2)
    if zeros[1] > 0.4 * half and zeros[0] < 0.05 * half:
        return "utf-16-le"
    if zeros[0] > 0.4 * half and zeros[1] < 0.05 * half:
        return "utf-16-be"
    rest = head.replace(b"\0", b"")
    if len(rest) < _FEWEST_BYTES or _strange(rest):
        raise Unreadable("binary", "binary, not text")
    return _narrow_encoding(rest)


def _decode(data: bytes, encoding: str) -> str:
    return codecs.getincrementaldecoder(encoding)("replace").decode(data, final=False)


def _decode_tail(tail: bytes, head: bytes, encoding: str) -> str:
    if encoding == "utf-16":
        encoding = "utf-16-be" if head.startswith(codecs.BOM_UTF16_BE) else "utf-16-le"
    return tail.decode(encoding.replace("-sig", ""), "replace")


def lines(source: Source) -> Iterator[tuple[int, str]]:
    """Each line with its number from 1; carriage returns end a line too, and long lines are cut."""
    with source.path.open(encoding=source.encoding, errors="replace", newline=None) as stream:
        number = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            yield number, line.rstrip("\n")
            while len(line) == LONGEST_LINE and not line.endswith("\n"):  # the rest of a line without end
                line = stream.readline(LONGEST_LINE)


def document(source: Source) -> str:
    """The whole text; raises `Unreadable` when it is too large to hold."""
    if source.size_bytes > LARGEST_DOCUMENT:
        limit = LARGEST_DOCUMENT // 2**20
        raise Unreadable(
            "too-large", f"{source.size_bytes / 2**20:.0f} MiB of JSON; at most {limit} MiB are read"
        )
    return source.path.read_text(encoding=source.encoding, errors="replace")
