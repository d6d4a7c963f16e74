"""The real yaml-language-server over stdio, as an editor drives it."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_START = Path("node_modules/yaml-language-server/bin/yaml-language-server")
_OLDEST_NODE = (20, 10)  # older ones cannot read the server's start script
_ANSWER_S = 30.0
# The server checks a document again when its schema arrives; what comes later than this is lost.
_QUIET_S = 0.4


def missing() -> str | None:
    """Why the server cannot run here, or None."""
    if shutil.which("node") is None:
        return "no node on PATH"
    found = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < _OLDEST_NODE:
        return f"node {found} is older than {'.'.join(map(str, _OLDEST_NODE))}"
    if not program().is_file():
        return "yaml-language-server is not installed: `make test` does it where npm is there"
    return None


def program() -> Path:
    """The server's start script: beside the interpreter, or in the folder YAML_SERVER_FOLDER names."""
    folder = os.environ.get("YAML_SERVER_FOLDER")
    return (Path(folder) if folder else Path(sys.prefix) / "node") / _START


@dataclass(frozen=True)
class Diagnostic:
    """One mark in the editor; lines and columns count from 1."""

    line: int
    column: int
    end_column: int
    message: str
    fixes: tuple[str, ...] = ()
    """Values or keys that the server would offer instead."""

    def __str__(self) -> str:
        return f"{self.line}: {self.message}"


@dataclass
class Server:
    """A running server; leaving the `with` block ends it."""

    schemas: dict[str, list[str]]
    """File URI of a schema -> globs of the documents it is for."""
    _process: subprocess.Popen[bytes] = field(init=False)
    _answers: dict[int, queue.Queue[Any]] = field(default_factory=dict)
    _published: dict[str, tuple[float, list[Diagnostic]]] = field(default_factory=dict)
    _next_id: int = 0
    _version: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["node", str(program()), "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        capabilities = {
            "textDocument": {
                "hover": {"contentFormat": ["markdown"]},
                "completion": {
                    "completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}
                },
            },
            "workspace": {"configuration": True},
        }
        self._ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities})
        self._tell("initialized", {})
        self._tell("workspace/didChangeConfiguration", {"settings": {"yaml": self._settings()}})
        time.sleep(0.6)  # the server says nothing when it has taken the settings in
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def open(self, documents: dict[str, str]) -> dict[str, list[Diagnostic]]:
        """What the editor marks in each of the documents, given as URI -> text."""
        for uri, text in documents.items():
            self.show(uri, text)
        return self._diagnostics(documents)

    def show(self, uri: str, text: str) -> None:
        """Open a document without waiting for its marks."""
        # The server keeps what it read of a document until the version changes.
        self._version += 1
        item = {"uri": uri, "languageId": "yaml", "version": self._version, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": item})

    def _diagnostics(self, uris: Iterable[str]) -> dict[str, list[Diagnostic]]:
        wanted = list(uris)
        deadline = time.monotonic() + _ANSWER_S
        with self._changed:
            while not self._settled(wanted):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no diagnostics for {set(wanted) - set(self._published)}")
                self._changed.wait(min(left, _QUIET_S / 2))
            return {uri: self._published[uri][1] for uri in wanted}

    def _settled(self, uris: list[str]) -> bool:
        if any(uri not in self._published for uri in uris):
            return False
        return time.monotonic() - max(self._published[uri][0] for uri in uris) > _QUIET_S

    def hover(self, uri: str, line: int, column: int) -> str:
        """The text shown for the character at a place counted from 1; empty when nothing is shown."""
        answer = self._ask("textDocument/hover", self._place(uri, line, column))
        return str(answer["contents"]["value"]) if answer else ""

    def complete(self, uri: str, line: int, column: int) -> dict[str, str]:
        """Label -> text inserted, of what is offered at a place counted from 1."""
        answer = self._ask("textDocument/completion", self._place(uri, line, column))
        items = answer["items"] if isinstance(answer, dict) else answer or []
        return {
            item["label"]: item.get("textEdit", {}).get("newText", item.get("insertText", ""))
            for item in items
        }

    @staticmethod
    def _place(uri: str, line: int, column: int) -> dict[str, Any]:
        return {"textDocument": {"uri": uri}, "position": {"line": line - 1, "character": column - 1}}

    def _settings(self) -> dict[str, Any]:
        return {
            "schemas": self.schemas,
            "validate": True,
            "hover": True,
            "completion": True,
            "schemaStore": {"enable": False},
            "format": {"enable": False},
        }

    def _ask(self, method: str, params: dict[str, Any]) -> Any:
        self._next_id += 1
        answer = self._answers[self._next_id] = queue.Queue(maxsize=1)
        self._send({"id": self._next_id, "method": method, "params": params})
        message = answer.get(timeout=_ANSWER_S)
        assert "error" not in message, message
        return message["result"]

    def _tell(self, method: str, params: dict[str, Any]) -> None:
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _listen(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while header := stream.readline():
            length = 0
            while header.strip():
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
                header = stream.readline()
            self._receive(json.loads(stream.read(length)))

    def _receive(self, message: dict[str, Any]) -> None:
        method = message.get("method")
        if method is None:
            self._answers.pop(message["id"]).put(message)
        elif method == "textDocument/publishDiagnostics":
            self._publish(message["params"])
        elif "id" in message:  # the server waits for an answer to each of its own questions
            items = message["params"].get("items", []) if method == "workspace/configuration" else None
            result = items and [self._settings() if i.get("section") == "yaml" else {} for i in items]
            self._send({"id": message["id"], "result": result})

    def _publish(self, params: dict[str, Any]) -> None:
        found = sorted((_diagnostic(d) for d in params["diagnostics"]), key=lambda d: (d.line, d.column))
        with self._changed:
            self._published[params["uri"]] = (time.monotonic(), found)
            self._changed.notify_all()


def _diagnostic(raw: dict[str, Any]) -> Diagnostic:
    start, end = raw["range"]["start"], raw["range"]["end"]
    data = raw.get("data") or {}
    fixes = data.get("values") or data.get("properties") or []
    return Diagnostic(
        start["line"] + 1,
        start["character"] + 1,
        end["character"] + 1,
        raw["message"],
        tuple(map(str, fixes)),
    )
