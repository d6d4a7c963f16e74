"""`engine view`: a list of runs in the browser, served to this machine or exported as files."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from engine.commands.console import Terminal
from engine.commands.options import RUNS
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.results.listing import RunList

PORT: Final = 8765


@click.command()
@RUNS
@click.option(
    "--port", type=click.IntRange(0, 65535), help=f"Port to listen at, {PORT} by default; 0 takes a free one."
)
@click.option("--host", help="Loopback address to listen at, 127.0.0.1 by default; no other is served.")
@click.option("--open/--no-open", "open_browser", default=False, help="Open the page in a browser.")
@click.option(
    "--export",
    "target",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the pages into a new folder instead of serving them.",
)
@click.option("--share", is_flag=True, help="With --export: leave out hosts, users and serial numbers.")
@click.pass_obj
def view(
    terminal: Terminal,
    runs: Path,
    port: int | None,
    host: str | None,
    open_browser: bool,
    target: Path | None,
    share: bool,
) -> None:
    """List the runs of a folder: filter and sort them, open reports and files, compare.

    The page is served to this machine alone, until Ctrl-C. --export writes the same as files that work
    without a server.
    """
    if share and target is None:
        raise UsageError("`--share` is for `--export`", hint="`engine view --export DIR --share`")
    if target is not None and (port is not None or host is not None):
        raise UsageError("`--export` writes files and listens at no port", hint="leave one of them out")
    from engine.results.listing import RunList

    listed = RunList(runs)
    if target is not None:
        _export(terminal, listed, target, share=share, open_browser=open_browser)
    else:
        _serve(
            terminal, listed, host=host or "127.0.0.1", port=PORT if port is None else port, show=open_browser
        )


def _export(terminal: Terminal, listed: RunList, target: Path, *, share: bool, open_browser: bool) -> None:
    from engine.commands.view_export import export

    index = export(listed, target, share=share, say=terminal.say)
    click.echo(str(index))
    if open_browser:
        _open(index.resolve().as_uri())


def _serve(terminal: Terminal, listed: RunList, *, host: str, port: int, show: bool) -> None:
    from engine.commands.view_server import application, listen, require_server, server_of

    require_server()
    listening = listen(host, port)
    with listening, tempfile.TemporaryDirectory(prefix="engine-view-") as scratch:
        name, number = listening.getsockname()[:2]
        address = f"http://{f'[{name}]' if ':' in name else name}:{number}/"
        click.echo(address)
        terminal.say(f"the runs of `{listed.folder}`, for this machine only; Ctrl-C ends")
        if show:
            _open(address)
        signal.signal(signal.SIGTERM, _stop)  # a polite request to end cleans up like Ctrl-C
        server_of(application(listed, Path(scratch))).run(sockets=[listening])


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _open(address: str) -> None:
    import threading
    import webbrowser

    # A browser in the terminal would hold the server up until it ends.
    threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
