"""The pages of a list of runs: what they say, and that no text of a run comes alive in them."""

import datetime as dt
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine.report.run_list import (
    counts_text,
    files_to_show,
    list_page,
    message_page,
    row_fragments,
    row_of,
    run_page,
    size_text,
)
from engine.results.listing import RunEntry
from tests.report.canaries import CANARY, SECRET

WHEN = dt.datetime(2026, 3, 1, 11, 30, tzinfo=dt.UTC)
ENTRY = RunEntry(
    id="one",
    folder=Path("runs/one"),
    name="one",
    state="partly failed",
    title="Which device",
    tags=("nightly",),
    kinds=("analytical", "run_folder"),
    models=("llama",),
    devices=("a", "b", "c", "d", "e"),
    formats=("bf16",),
    points=1_234,
    tasks=10,
    done=7,
    failed=3,
    started=WHEN,
    ended=WHEN,
    commit="0123456789abcdef",
    dirty=True,
    verdict="Best is b.",
    report="there",
    session={"host": "secret-host", "command": "engine run /home/somebody/x.yaml", "engine": "1"},
)


class Parsed(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def served(*entries: RunEntry) -> str:
    return list_page([row_of(entry) for entry in entries], name="runs", mode="served").text


def test_a_row_says_what_the_run_is() -> None:
    row = row_of(ENTRY)
    assert (row.progress, row.tone, row.when) == ("3 of 10 tasks failed", "warning", "2026-03-01 11:30")
    assert (row.commit, row.dirty) == ("0123456789", True)
    assert row.kinds == ("analytical", "run folder")
    text = Parsed(row_fragments([row])).text
    for part in ("one Which device Best is b. nightly", "partly failed 3 of 10 tasks failed", "1,234"):
        assert part in text
    assert "a b c and 2 more" in text


@pytest.mark.parametrize(
    ("changes", "progress", "share"),
    [
        ({"state": "finished", "done": 10, "failed": 0}, "10 tasks", None),
        ({"state": "finished", "tasks": 1, "done": 1, "failed": 0}, "1 task", None),
        ({"state": "failed", "done": 0, "failed": 10}, "10 of 10 tasks failed", None),
        ({"state": "unfinished", "done": 4, "failed": 0}, "4 of 10 tasks", None),
        ({"state": "running", "done": 4, "failed": 1}, "4 of 10 tasks, 1 failed", 0.4),
        ({"state": "damaged", "tasks": 0, "done": 0, "failed": 0}, "", None),
    ],
)
def test_states_in_words(changes: dict[str, object], progress: str, share: float | None) -> None:
    row = row_of(replace(ENTRY, **changes))
    assert (row.progress, row.share) == (progress, share)


def test_a_damaged_run_shows_its_reason_and_no_answer() -> None:
    damaged = replace(
        ENTRY, state="damaged", reason="`plan.json` is missing", report="stale", done=0, failed=0
    )
    text = Parsed(served(damaged)).text
    assert "`plan.json` is missing" in text
    assert "Best is b." not in text
    assert not row_of(damaged).has_report
    assert 'type="checkbox"' not in served(damaged)


def test_a_run_without_a_report_says_how_to_get_one() -> None:
    bare = replace(ENTRY, verdict=None, report="absent")
    assert "No report yet; opening it makes one." in Parsed(served(bare)).text
    assert 'href="runs/one/report.html"' in served(bare)


def test_an_old_answer_is_said_to_be_old() -> None:
    assert (
        "Best is b. (from before the latest results)" in Parsed(served(replace(ENTRY, report="stale"))).text
    )


def test_the_stamp_changes_with_what_is_printed_and_only_then() -> None:
    stamp = row_of(ENTRY).stamp
    assert row_of(replace(ENTRY, folder=Path("elsewhere"))).stamp == stamp
    assert row_of(replace(ENTRY, done=6)).stamp == stamp  # three of ten have failed either way
    assert row_of(replace(ENTRY, failed=2)).stamp != stamp


def test_runs_are_counted_by_state() -> None:
    rows = [row_of(replace(ENTRY, state=state)) for state in ("damaged", "finished", "running", "finished")]
    assert counts_text(rows) == "4 runs: 1 running, 2 finished, 1 damaged."
    assert counts_text(rows[:1]) == "1 run: 1 damaged."
    assert counts_text([]) == "No run yet."


def test_an_empty_folder_has_advice() -> None:
    page = list_page([], name="runs", mode="served", advice="Make one with `engine run SPEC`.").text
    assert "There is no run in this folder. Make one with `engine run SPEC`." in Parsed(page).text


def test_filters_offer_what_differs() -> None:
    other = replace(ENTRY, id="two", name="two", kinds=("live",), devices=("a",), state="finished", tags=())
    page = Parsed(served(ENTRY, other))
    fields = [value for name, value in page.attributes if name == "data-field"]
    assert fields == ["state", "kinds", "devices"]  # one model and one tag are nothing to choose from


def test_an_exported_list_needs_no_server() -> None:
    page = list_page([row_of(ENTRY)], name="runs", mode="exported").text
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert "connect-src" not in policy[1]
    assert "form-action &#39;none&#39;" in policy[1]
    assert 'type="checkbox"' not in page
    addresses = [value for name, value in Parsed(page).attributes if name in ("href", "src")]
    assert addresses == ["#content", "runs/one/report.html", "runs/one/index.html"]


HOSTILE = replace(
    ENTRY,
    name=CANARY,
    title=CANARY,
    description=CANARY,
    verdict=CANARY,
    tags=(CANARY,),
    kinds=(CANARY,),
    models=(CANARY,),
    devices=(CANARY,),
    formats=(CANARY,),
    commit=CANARY,
    fingerprint=CANARY,
    holder={"pid": CANARY, "host": CANARY, "since": CANARY},
    session={CANARY: CANARY, "host": CANARY},
)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("state", ["running", "damaged"])
def test_no_text_of_a_run_comes_alive(tmp_path: Path, share: bool, state: str) -> None:
    (tmp_path / "experiment.yaml").write_text(CANARY, encoding="utf-8")
    entry = replace(HOSTILE, folder=tmp_path, state=state, reason=CANARY)
    harmless = replace(ENTRY, folder=tmp_path, state=state, reason="x", holder=None)
    rows = [row_of(entry, share=share)]
    files = [(CANARY.replace("/", "_"), 1)]
    for mode in ("served", "exported"):
        pages = [
            list_page(rows, name=CANARY, mode=mode, share=share).text,
            run_page(entry, files, mode=mode, share=share, has_report=True).text,
        ]
        plain = [
            list_page([row_of(harmless)], name="x", mode=mode, share=share).text,
            run_page(harmless, [("x", 1)], mode=mode, share=share, has_report=True).text,
        ]
        for hostile, calm in zip(pages, plain, strict=True):
            assert set(Parsed(hostile).tags) <= set(Parsed(calm).tags) | {"pre", "code", "h3"}
            assert Parsed(hostile).tags.count("script") == 1
            assert not any(name.startswith("on") for name, _ in Parsed(hostile).attributes)
            assert SECRET not in hostile
            assert "\x1b" not in hostile
            assert "\u202e" not in hostile


def test_a_message_is_text() -> None:
    page = message_page("This did not work", CANARY, CANARY).text
    assert Parsed(page).tags.count("script") == 1
    assert "img" not in Parsed(page).tags


def test_shared_pages_name_no_host_and_no_path(tmp_path: Path) -> None:
    (tmp_path / "experiment.yaml").write_text("# by somebody on secret-host, see /home/somebody/x\n")
    holder = {"host": "other-host", "pid": 7, "since": "x"}
    entry = replace(ENTRY, folder=tmp_path, title="made on secret-host", state="running", holder=holder)
    page = run_page(entry, [], mode="exported", share=True, has_report=True).text
    page += list_page([row_of(entry, share=True)], name="runs", mode="exported", share=True).text
    for told in ("secret-host", "other-host", "/home/somebody", str(tmp_path)):
        assert told not in page
    assert "Names of hosts, users and devices are left out." in page
    open_page = run_page(entry, [], mode="served", has_report=True).text
    assert "secret-host" in open_page


def test_the_page_of_a_run_tells_what_failed(tmp_path: Path) -> None:
    gone = replace(ENTRY, folder=tmp_path)
    text = Parsed(run_page(gone, [], mode="served", has_report=False).text).text
    assert "What failed and why 3 tasks – `plan.json` is missing" in text


def test_files_stand_in_the_order_they_are_wanted(tmp_path: Path) -> None:
    for name in ("results/summary/x.parquet", "plan.json", "report/report.html", "registry.sqlite"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    entry = replace(ENTRY, folder=tmp_path)
    assert [name for name, _ in files_to_show(entry)] == [
        "report/report.html", "plan.json", "registry.sqlite", "results/summary/x.parquet",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_500, "2 kB"), (1_400_000, "1.4 MB")],
)
def test_sizes_in_words(size: int, text: str) -> None:
    assert size_text(size) == text


def test_the_same_runs_give_the_same_page() -> None:
    assert served(ENTRY) == served(replace(ENTRY))
