"""`engine view` as a user meets it: over a real socket, as files, and with the mistakes people make."""

from __future__ import annotations

import builtins
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.commands import view_server
from engine.commands.view_render import reason_of
from engine.results.lock import FolderLock
from tests.results.test_listing import make_run, write_report

Engine = Callable[..., Any]


@dataclass(frozen=True)
class Reply:
    """What the server answered."""

    status: int
    headers: dict[str, str]
    text: str


class Server:
    """A server of a folder of runs on a free port of this machine."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        pytest.importorskip("uvicorn")
        from engine.commands.view_server import application, listen, server_of
        from engine.results.listing import RunList

        self._socket = listen("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        self._server = server_of(application(RunList(folder), scratch))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()

    def get(self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in {"Host": f"127.0.0.1:{self.port}", **(headers or {})}.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read().decode("utf-8", "replace"))
        finally:
            connection.close()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=20)
        self._socket.close()
        assert not self._thread.is_alive()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two finished runs with reports that say so, and a file outside that nobody may read."""
    folder = tmp_path / "runs"
    for name in ("one", "two"):
        make_run(folder / name)
        write_report(folder / name, f"Answer of {name}.")
    (tmp_path / "secret.txt").write_text("nobody may read this")
    return folder


@pytest.fixture
def server(runs: Path, tmp_path: Path) -> Iterator[Server]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = Server(runs, scratch)
    yield found
    found.stop()


# what is served


def test_the_list_names_every_run(server: Server) -> None:
    page = server.get("/")
    assert page.status == 200
    for part in ("2 runs: 2 finished.", "Answer of one.", "Answer of two.", 'href="runs/one/report.html"'):
        assert part in page.text


def test_a_run_that_goes_on_is_told_apart_and_counted_on(server: Server, runs: Path) -> None:
    before = dict(json.loads(server.get("/stamps.json").text)["rows"])
    lock = FolderLock(runs / "two" / ".lock")
    during = json.loads(server.get("/stamps.json").text)
    assert during["counts"] == "2 runs: 1 running, 1 finished."
    assert dict(during["rows"])["one"] == before["one"]
    assert dict(during["rows"])["two"] != before["two"]
    rows = server.get("/rows?run=two").text
    assert 'data-state="running"' in rows
    assert 'id="run-one"' not in rows
    lock.release()
    assert dict(json.loads(server.get("/stamps.json").text)["rows"]) == before


def test_a_damaged_run_is_a_row_and_a_page(server: Server, runs: Path) -> None:
    (runs / "two" / "plan.json").write_text("{")
    assert "two/plan.json` cannot be read" in server.get("/").text
    page = server.get("/runs/two/index.html")
    assert (page.status, "Damaged: " in page.text) == (200, True)


def test_files_are_shown_for_what_they_are(server: Server, runs: Path) -> None:
    page = server.get("/runs/one/index.html").text
    assert 'href="files/plan.json"' in page
    kinds = {}
    (runs / "one" / "picture.svg").write_text("<svg/>")
    for name in ("plan.json", "experiment.yaml", "report/report.html", "registry.sqlite", "picture.svg"):
        answer = server.get(f"/runs/one/files/{name}")
        kinds[name] = (answer.status, answer.headers["content-type"])
        assert "sandbox" in answer.headers["content-security-policy"] or name in (
            "registry.sqlite",
            "picture.svg",
        )
    assert kinds == {
        "plan.json": (200, "text/plain; charset=utf-8"),
        "experiment.yaml": (200, "text/plain; charset=utf-8"),
        "report/report.html": (200, "text/html; charset=utf-8"),
        "registry.sqlite": (200, "application/octet-stream"),
        "picture.svg": (200, "application/octet-stream"),
    }
    disposition = server.get("/runs/one/files/registry.sqlite").headers["content-disposition"]
    assert disposition == 'attachment; filename="registry.sqlite"'


def test_a_fresh_report_is_served_as_it_lies_there(server: Server, runs: Path) -> None:
    answer = server.get("/runs/one/report.html")
    assert answer.text == (runs / "one" / "report" / "report.html").read_text()
    policy = answer.headers["content-security-policy"]
    assert policy.endswith("sandbox allow-scripts allow-downloads")
    assert "default-src 'none'" in policy


def test_a_report_that_cannot_be_made_says_why(server: Server, runs: Path) -> None:
    os.utime(runs / "one" / "report" / "report.html", (1, 1))
    plan = json.loads((runs / "one" / "plan.json").read_text())
    plan["experiment"]["measurements"] = []
    (runs / "one" / "plan.json").write_text(json.dumps(plan))
    answer = server.get("/runs/one/report.html")
    assert answer.status == 500
    assert "the report of `one` could not be made: the plan is damaged" in answer.text
    assert "run the spec again to write a new one" in answer.text


def test_too_few_runs_compare_to_nothing(server: Server) -> None:
    answer = server.get("/compare?run=one&run=one")
    assert (answer.status, "Tick between two and 20 runs" in answer.text) == (400, True)
    assert server.get("/compare?run=one&run=other").status == 404


@pytest.mark.slow
def test_a_made_report_and_a_comparison(
    engine: Engine, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine("run", spec, "--no-report")
    engine("run", spec, "--no-report", "--set", "name=second", "--set", "measurements.0.calibration=none")
    found = Server(Path("runs"), tmp_path)
    try:
        assert "No report yet; opening it makes one." in found.get("/").text
        with monkeypatch.context() as patch:  # a folder one may not write to stays as it is
            patch.setattr(view_server, "_is_writable", lambda folder: False)
            report = found.get("/runs/tiny/report.html")
            assert (report.status, Path("runs/tiny/report").exists()) == (200, False)
            patch.setattr(view_server, "report_command", None)  # it is not made twice
            assert found.get("/runs/tiny/report.html").text == report.text
        report = found.get("/runs/tiny/report.html")
        assert report.status == 200, report.text[-600:]
        assert "<title>tiny</title>" in report.text
        assert 'id="report-data"' in report.text
        listed = found.get("/").text
        assert listed.count("No report yet; opening it makes one.") == 1
        compared = found.get("/compare?run=tiny&run=second")
        assert compared.status == 200, compared.text
        assert "second" in compared.text
        assert "sandbox" in compared.headers["content-security-policy"]
    finally:
        found.stop()


@pytest.mark.slow
def test_runs_without_a_common_point_lead_to_what_would_compare_them(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    engine("run", spec, "--no-report")
    engine("run", spec, "--no-report", "--set", "name=second", "--set", "workload.prompt_tokens=512")
    found = Server(Path("runs"), tmp_path)
    try:
        answer = found.get("/compare?run=tiny&run=second")
        assert (answer.status, "shares no point with" in answer.text) == (500, True)
        address = "compare?run=tiny&amp;run=second&amp;ignore=prompt_tokens"
        assert (
            f'<a href="{address}">Compare them all the same: without regard to prompt_tokens</a>'
            in answer.text
        )
        compared = found.get("/" + address.replace("&amp;", "&"))
        assert (compared.status, "second" in compared.text) == (200, True)
        assert found.get("/compare?run=tiny&run=second&ignore=--json").status == 400
    finally:
        found.stop()


# who is let in


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "10.0.0.7", "", "a b", "[::1].x"],
)
def test_other_names_of_this_machine_are_refused(server: Server, host: str) -> None:
    answer = server.get("/", headers={"Host": host.format(port=server.port)})
    assert answer.status in (400, 421)
    assert "Answer of one" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "127.0.0.2:80", "[::1]:9000"])
def test_names_of_this_machine_are_let_in(server: Server, host: str) -> None:
    assert server.get("/", headers={"Host": host}).status == 200


def test_two_hosts_are_refused(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := raw.recv(65_536):
            answer += piece
    assert answer.split()[1] in (b"400", b"421")
    assert b"Answer of one" not in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_reading_is_allowed(server: Server, method: str) -> None:
    answer = server.get("/", method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("site", "mode", "dest", "status"),
    [
        ("cross-site", "no-cors", "script", 403),
        ("cross-site", "navigate", "iframe", 403),
        ("same-site", "cors", "empty", 403),
        ("cross-site", "navigate", "document", 200),
        ("same-origin", "cors", "empty", 200),
        ("none", "navigate", "document", 200),
    ],
)
def test_other_sites_may_only_lead_here(server: Server, site: str, mode: str, dest: str, status: int) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
    assert server.get("/stamps.json", headers=headers).status == status


@pytest.mark.parametrize(
    "path",
    [
        "/runs/one/files/../../../secret.txt",
        "/runs/one/files/..%2f..%2f..%2fsecret.txt",
        "/runs/one/files/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "/runs/one/files/..%5c..%5csecret.txt",
        "/runs/one/files//etc/passwd",
        "/runs/one/files/%2Fetc%2Fpasswd",
        "/runs/one/files/plan.json%00.txt",
        "/runs/one/files/.lock",
        "/runs/one/files/away",
        "/runs/one/files/folder/secret.txt",
        "/runs/one/files/report",
        "/runs/one/files/",
        "/runs/../secret.txt",
        "/runs/%2e%2e/index.html",
        "/runs/..%2fsecret.txt/index.html",
        "/secret.txt",
        "/../secret.txt",
    ],
)
def test_nothing_outside_of_a_run_is_served(server: Server, runs: Path, path: str) -> None:
    (runs / "one" / "away").symlink_to(runs.parent / "secret.txt")
    (runs / "one" / "folder").symlink_to(runs.parent, target_is_directory=True)
    answer = server.get(path)
    assert answer.status == 404
    assert "nobody may read" not in answer.text
    assert "root:" not in answer.text


def test_every_answer_has_its_headers(server: Server) -> None:
    for path, status in (
        ("/", 200),
        ("/stamps.json", 200),
        ("/nothing", 404),
        ("/runs/one/files/plan.json", 200),
    ):
        answer = server.get(path)
        assert answer.status == status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_a_defect_is_told_and_the_server_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr(view_server, "list_page", broken)
        answer = server.get("/")
    assert (answer.status, answer.text) == (500, "this is a defect of the engine; its terminal says more\n")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert capfd.readouterr().err.startswith("error: TypeError: a defect\n")
    assert server.get("/").status == 200


# what people do wrong


def test_a_folder_that_is_not_there(engine: Engine, spec: Path) -> None:
    answer = engine("view")
    assert answer.code == 2
    assert answer.err == (
        "error: there is no folder `runs`\n"
        "  `engine run SPEC` makes `runs`; `--runs DIR` names another folder of runs\n"
    )


def test_a_port_in_use(engine: Engine, runs: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = engine("view", "--runs", runs, "--port", str(port))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == (
        f"error: port {port} is in use\n  choose another with `--port`; `--port 0` takes a free one\n"
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.com"])
def test_another_address_than_this_machine(engine: Engine, runs: Path, host: str) -> None:
    answer = engine("view", "--runs", runs, "--host", host, "--port", "0")
    assert answer.code == 2
    assert answer.err == (
        f"error: `{host}` is no loopback address: the list is for this machine only, it has no password\n"
        "  from another machine: `ssh -L 8765:127.0.0.1:8765 HOST`; to share: "
        "`engine view --export DIR --share`\n"
    )


def test_without_the_extra(engine: Engine, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    answer = engine("view", "--runs", runs, "--port", "0")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err == (
        "error: `uvicorn` is not installed, and serving pages needs it\n"
        "  pip install 'llm-experiment-engine[view]'; `--export DIR` works without\n"
    )
    assert engine("view", "--runs", runs, "--export", runs.parent / "site").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--share"], "error: `--share` is for `--export`\n"),
        (["--export", "site", "--port", "1"], "error: `--export` writes files and listens at no port\n"),
    ],
)
def test_options_that_do_not_go_together(
    engine: Engine, runs: Path, arguments: list[str], message: str
) -> None:
    answer = engine("view", "--runs", runs, *arguments)
    assert (answer.code, answer.err.startswith(message)) == (2, True)


def test_an_export_overwrites_nothing(engine: Engine, runs: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "mine.txt").write_text("keep")
    answer = engine("view", "--runs", runs, "--export", site)
    assert answer.code == 2
    assert answer.err == (
        f"error: `{site}` is not empty, and an export overwrites nothing\n  name a new folder, or remove it\n"
    )
    assert [path.name for path in site.iterdir()] == ["mine.txt"]
    answer = engine("view", "--runs", runs, "--export", site / "mine.txt")
    assert f"`{site / 'mine.txt'}` is no folder, and an export overwrites nothing" in answer.err
    assert (site / "mine.txt").read_text() == "keep"


# files


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_an_export_holds_pages_reports_and_specs_and_comes_out_the_same(
    engine: Engine, runs: Path, tmp_path: Path
) -> None:
    answer = engine("view", "--runs", runs, "--export", tmp_path / "site")
    assert (answer.code, answer.out) == (0, f"{tmp_path / 'site' / 'index.html'}\n")
    found = contents(tmp_path / "site")
    assert sorted(name for name in found if "two" not in name) == [
        "index.html",
        "runs/one/files/experiment.yaml",
        "runs/one/files/resolved.yaml",
        "runs/one/index.html",
        "runs/one/report.html",
    ]
    assert b"Answer of two." in found["index.html"]
    (tmp_path / "empty").mkdir()
    engine("view", "--runs", runs, "--export", tmp_path / "empty")
    assert contents(tmp_path / "empty") == found
    assert not list(tmp_path.glob(".*"))


def test_a_shared_export_names_no_host(engine: Engine, spec: Path, tmp_path: Path) -> None:
    engine("run", spec)
    node = os.uname().nodename
    answer = engine("view", "--export", "site", "--share")
    assert (answer.code, answer.out) == (0, "site/index.html\n")
    found = contents(Path("site"))
    assert sorted(found) == ["index.html", "runs/tiny/index.html", "runs/tiny/report.html"]
    told = [
        name for name, text in found.items() if f">{node}<".encode() in text or str(tmp_path).encode() in text
    ]
    assert told == []
    assert b"Names of hosts, users and devices are left out." in found["runs/tiny/report.html"]
    engine("view", "--export", "again", "--share")
    assert contents(Path("again")) == found


def test_an_export_goes_on_without_a_report_that_fails(engine: Engine, runs: Path, tmp_path: Path) -> None:
    os.utime(runs / "one" / "report" / "report.html", (1, 1))
    plan = json.loads((runs / "one" / "plan.json").read_text())
    plan["experiment"]["measurements"] = []
    (runs / "one" / "plan.json").write_text(json.dumps(plan))
    site = tmp_path / "site"
    answer = engine("view", "--runs", runs, "--export", site)
    assert answer.code == 4
    assert f"everything is in `{site}` but 1 of the reports: `one`: the plan is damaged" in answer.err
    found = contents(site)
    assert "runs/one/report.html" not in found
    assert b'href="runs/one/index.html"' in found["index.html"]
    assert b"Answer of two." in found["index.html"]


def test_an_empty_folder_is_exported_with_advice(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    engine("view", "--runs", tmp_path / "runs", "--export", tmp_path / "site")
    assert b"There is no run in this folder." in (tmp_path / "site" / "index.html").read_bytes()


# the whole command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_and_ends_when_asked(runs: Path, tmp_path: Path, number: int) -> None:
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "engine", "view", "--runs", str(runs), "--port", "0"]
    scratch = tmp_path / "temporary"
    scratch.mkdir()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        port = int(address.removesuffix("/").rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
        time.sleep(0.2)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said.strip() == f"the runs of `{runs}`, for this machine only; Ctrl-C ends"
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", ("it ended without a word", None)),
        (b"error: no\n", ("no", None)),
        (b"note\nerror: no\n  try this\n", ("no", "try this")),
        (b"Killed\n", ("Killed", None)),
    ],
)
def test_what_a_command_said(said: bytes, reason: tuple[str, str | None]) -> None:
    assert reason_of(said) == reason
