"""The server behind `engine view`: for this machine only, for reading only, and safe with runs of strangers.

A page on the web can make a browser ask this server, under a name of its own that it points here (DNS
rebinding); hence the look at `Host`. Reports and files come from run folders, which anybody may have made;
hence they are shown in a sandbox without an origin, where a script in one cannot read the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from engine.commands.console import show_defect
from engine.commands.view_render import compare_command, reason_of, report_command
from engine.errors import EngineError, EnvironmentMissing, ReportError, UsageError
from engine.report.run_list import (
    Page,
    Row,
    counts_text,
    files_to_show,
    list_page,
    message_page,
    row_fragments,
    row_of,
    run_page,
)
from engine.results.listing import RunEntry, RunList, report_state

if TYPE_CHECKING:
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

ADVICE: Final = "Make one with `engine run SPEC`, or name another folder: `engine view --runs DIR`."
_MOST_COMPARED: Final = 20
_RENDER_S: Final = 600
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,255})(?::\d{1,5})?")
_FIELDS: Final = re.compile(r"(?:[a-z_]{1,40}(?:,[a-z_]{1,40}){0,30})?")
_IGNORE: Final = re.compile(r"`--ignore ([a-z_]+(?:,[a-z_]+)*)`")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_SANDBOX: Final = f"{_NOTHING}; sandbox"
# A report's own policy names its scripts by hash; both must agree before one runs.
_REPORT: Final = (
    f"{_NOTHING}; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "sandbox allow-scripts allow-downloads"
)
_TEXTS: Final = {".yaml", ".yml", ".json", ".jsonl", ".txt", ".log", ".md", ".csv"}
_SHOWN: Final = {".html": "text/html", ".pdf": "application/pdf", ".png": "image/png"}


def server_of(app: Any) -> uvicorn.Server:
    """A server that tells nobody what it is and waits two seconds for answers under way when it ends."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app, loop="asyncio", http="h11", ws="none", log_config=None, access_log=False,
            log_level="critical", server_header=False, proxy_headers=False, timeout_graceful_shutdown=2,
        )
    )  # fmt: skip


def require_server() -> None:
    """Raise `EnvironmentMissing` where the extra is not installed."""
    try:
        import starlette
        import uvicorn  # noqa: F401 - both are needed, and only looked for here
    except ImportError as err:
        raise EnvironmentMissing(
            f"`{err.name}` is not installed, and serving pages needs it",
            hint="pip install 'llm-experiment-engine[view]'; `--export DIR` works without",
        ) from err
    del starlette


def listen(host: str, port: int) -> socket.socket:
    """A socket at a loopback address; raises `UsageError` for any other and where the port is taken."""
    import errno
    import socket

    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    if not _is_loopback(address):
        raise UsageError(
            f"`{host}` is no loopback address: the list is for this machine only, it has no password",
            hint=f"from another machine: `ssh -L {port or 8765}:127.0.0.1:{port or 8765} HOST`; to share: "
            "`engine view --export DIR --share`",
        )
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
        listening.listen(128)
    except OSError as err:
        listening.close()
        if err.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} is in use", hint="choose another with `--port`; `--port 0` takes a free one"
            ) from err
        raise UsageError(f"cannot listen at `{host}`, port {port}: {err.strerror or err}") from err
    return listening


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Gate:
    """Lets in what asks this server by a name of this machine, to read; everything else is refused."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        refused = _refusal(scope["method"], headers)
        begun = False

        async def guarded(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                given = list(message.get("headers", []))
                names = {name for name, _ in given}
                own = [*_HEADERS, (b"content-security-policy", _NOTHING.encode())]
                message = {**message, "headers": given + [pair for pair in own if pair[0] not in names]}
            await send(message)

        if refused is None:
            try:
                await self._app(scope, receive, guarded)
            except asyncio.CancelledError:  # the server ends while this is under way
                refused = (503, "the server has ended\n", [])
            except Exception as err:  # noqa: BLE001 - one answer that fails must not end the others
                show_defect(err)
                refused = (500, "this is a defect of the engine; its terminal says more\n", [])
        if refused is not None and not begun:
            status, text, more = refused
            start = [(b"content-type", b"text/plain; charset=utf-8"), *more]
            await guarded({"type": "http.response.start", "status": status, "headers": start})
            await guarded({"type": "http.response.body", "body": text.encode()})


def _refusal(
    method: str, headers: Sequence[tuple[bytes, str]]
) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
    """Why a request is refused: status, text, headers; None when it is not."""
    given: dict[bytes, list[str]] = {}
    for name, value in headers:
        given.setdefault(name, []).append(value)
    hosts = given.get(b"host", [])
    named = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if named is None or not _is_loopback(named[1].strip("[]").lower()):
        return 421, "this server answers only under a name of this machine, such as 127.0.0.1\n", []
    if method not in ("GET", "HEAD"):
        return 405, "this server is for reading only\n", [(b"allow", b"GET, HEAD")]
    # Other sites may lead a reader here, and nothing more: no picture, script or frame of theirs.
    site = given.get(b"sec-fetch-site", ["none"])[0]
    leads = given.get(b"sec-fetch-mode", [""])[0] == "navigate"
    whole = given.get(b"sec-fetch-dest", [""])[0] == "document"
    # A report stands in a sandbox without an origin, so its links count as those of another site.
    if site not in ("none", "same-origin") and not (leads and whole):
        return 403, "other sites may not use this server\n", []
    return None


class Viewer:
    """What the addresses lead to."""

    def __init__(self, runs: RunList, scratch: Path) -> None:
        self._runs = runs
        self._scratch = scratch
        self._rows: dict[str, tuple[RunEntry, Row]] = {}
        self._changing = threading.Lock()
        # One at a time: each takes a core and some hundred megabytes.
        self._rendering = asyncio.Lock()

    # what is shown

    def index(self, _request: Request) -> Response:
        """The list of runs."""
        name = self._runs.folder.resolve().name or "runs"
        return _answer(list_page(self._all_rows(), name=name, mode="served", advice=ADVICE))

    def stamps(self, _request: Request) -> Response:
        """What an open list compares with what it shows."""
        from starlette.responses import JSONResponse

        rows = self._all_rows()
        return JSONResponse({"counts": counts_text(rows), "rows": [[row.id, row.stamp] for row in rows]})

    def rows(self, request: Request) -> Response:
        """Some rows of the list."""
        from starlette.responses import HTMLResponse

        wanted = set(request.query_params.getlist("run"))
        return HTMLResponse(row_fragments([row for row in self._all_rows() if row.id in wanted]))

    def run(self, request: Request) -> Response:
        """The page of one run."""
        entry = self._runs.find(request.path_params["id"])
        if entry is None:
            return _missing_run()
        row = self._row(entry)
        return _answer(run_page(entry, files_to_show(entry), mode="served", has_report=row.has_report))

    def file(self, request: Request) -> Response:
        """One file of a run."""
        entry = self._runs.find(request.path_params["id"])
        if entry is None:
            return _missing_run()
        path = file_below(entry.folder, request.path_params["path"])
        if path is None:
            return _answer(message_page("Not found", "this run has no such file", depth="/"), 404)
        return _file(path)

    async def report(self, request: Request) -> Response:
        """The report of a run, made first where there is none or results came after it."""
        found = await asyncio.to_thread(self._runs.find, request.path_params["id"])
        if found is None:
            return _missing_run()
        target = found.folder / "report"
        if found.report != "there":
            target = target if _is_writable(found.folder) else self._scratch / found.id
            async with self._rendering:
                # Somebody else may have asked for it meanwhile.
                if report_state(found.folder, target / "report.html") != "there":
                    await _child(report_command(found, target), f"the report of `{found.name}`")
        return _file(target / "report.html")

    async def compare(self, request: Request) -> Response:
        """Two runs or more side by side."""
        ids = list(dict.fromkeys(request.query_params.getlist("run")))
        known = {entry.id: entry for entry in await asyncio.to_thread(self._runs.entries)}
        if not all(id_ in known for id_ in ids):
            return _missing_run()
        if not 2 <= len(ids) <= _MOST_COMPARED:
            advice = f"Tick between two and {_MOST_COMPARED} runs in the list."
            return _answer(message_page("Nothing to compare", f"{len(ids)} runs are ticked", advice), 400)
        # The oldest is what the others are compared with.
        chosen = sorted(
            (known[id_] for id_ in ids), key=lambda entry: entry.when.timestamp() if entry.when else 0
        )
        ignored = request.query_params.get("ignore", "")
        if not _FIELDS.fullmatch(ignored):
            return _answer(message_page("Nothing to compare", "`ignore` names fields of points"), 400)
        async with self._rendering:
            with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
                try:
                    await _child(compare_command(chosen, Path(folder), ignored=ignored), "the comparison")
                except ReportError as err:
                    return _answer(_incomparable(ids, err), 500)
                content = (Path(folder) / "compare.html").read_bytes()
        from starlette.responses import HTMLResponse

        return HTMLResponse(content, headers={"content-security-policy": _REPORT})

    # how it is found

    def _all_rows(self) -> list[Row]:
        return [self._row(entry) for entry in self._runs.entries()]

    def _row(self, entry: RunEntry) -> Row:
        """The run as it is printed; cleaned again only when it changed."""
        with self._changing:
            known = self._rows.get(entry.id)
            if known is None or known[0] is not entry:
                known = self._rows[entry.id] = (entry, row_of(entry))
            return known[1]


def application(runs: RunList, scratch: Path) -> Starlette:
    """The whole server as an ASGI application; `scratch` holds reports of runs one may not write to."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.routing import Route

    viewer = Viewer(runs, scratch)
    routes = [
        Route("/", viewer.index),
        Route("/stamps.json", viewer.stamps),
        Route("/rows", viewer.rows),
        Route("/compare", viewer.compare),
        Route("/runs/{id}/index.html", viewer.run),
        Route("/runs/{id}/report.html", viewer.report),
        Route("/runs/{id}/files/{path:path}", viewer.file),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Gate)],
        exception_handlers={EngineError: _explained, 404: _unknown_page},
    )


def file_below(folder: Path, path: str) -> Path | None:
    """The file of that name below a folder; None for hidden files, links, and anything outside."""
    parts = path.split("/")
    if any(not part or part.startswith(".") or "\0" in part or "\\" in part for part in parts):
        return None
    target = folder.resolve().joinpath(*parts)
    try:
        if target.resolve(strict=True) != target or not target.is_file():
            return None
    except OSError:
        return None
    return target


def _file(path: Path) -> Response:
    from starlette.responses import FileResponse

    kind = path.suffix.lower()
    if kind in _TEXTS:
        return FileResponse(
            path, media_type="text/plain; charset=utf-8", headers={"content-security-policy": _SANDBOX}
        )
    if kind not in _SHOWN:
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)
    # A browser's own PDF reader does not work in a sandbox, and runs no script with our origin.
    policy = {".html": _REPORT, ".pdf": "frame-ancestors 'none'"}.get(kind, _SANDBOX)
    return FileResponse(path, media_type=_SHOWN[kind], headers={"content-security-policy": policy})


def _answer(page: Page, status: int = 200) -> Response:
    from starlette.responses import HTMLResponse

    header = f"{page.policy}; frame-ancestors 'none'"
    return HTMLResponse(page.text, status, headers={"content-security-policy": header})


def _missing_run() -> Response:
    return _answer(
        message_page("Not found", "there is no such run in this folder; it may have been moved", depth="/"),
        404,
    )


def _unknown_page(_request: Request, _err: Exception) -> Response:
    return _answer(message_page("Not found", "there is no such page", depth="/"), 404)


def _explained(_request: Request, err: Exception) -> Response:
    message, hint = (err.message, err.hint or "") if isinstance(err, EngineError) else (str(err), "")
    return _answer(message_page("This did not work", message, hint, depth="/"), 500)


def _age(entry: RunEntry) -> float:
    return entry.when.timestamp() if entry.when else 0.0


def _incomparable(ids: Sequence[str], err: ReportError) -> Page:
    """Why runs cannot be compared, and a link to what the command advises where a page can do it."""
    advice = _IGNORE.search(err.hint or "")
    if advice is None:
        return message_page("This did not work", err.message, err.hint or "")
    address = "compare?" + urlencode([*(("run", id_) for id_ in ids), ("ignore", advice[1])])
    text = f"Compare them all the same: without regard to {advice[1].replace(',', ', ')}"
    return message_page("Nothing to compare", err.message, link=(text, address))


def _is_writable(folder: Path) -> bool:
    report = folder / "report"
    return os.access(report if report.exists() else folder, os.W_OK)


async def _child(command: Sequence[str], what: str) -> None:
    """Run a command of the engine; raises `ReportError` with what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _, said = await asyncio.wait_for(process.communicate(), _RENDER_S)
    except TimeoutError:
        raise ReportError(f"{what} took longer than {_RENDER_S} s and was given up") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with whatever it started itself
            await process.wait()
    if process.returncode:
        reason, hint = reason_of(said)
        raise ReportError(f"{what} could not be made: {reason}", hint=hint)
