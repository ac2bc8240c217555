"""Each benchmark works, in a tiny form; how fast is no test's business."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from benchmarks import floor, history, report
from benchmarks.__main__ import NAMES
from benchmarks.common import Figure, Place, Size
from orchestrator.service import signals, stories
from orchestrator.service.context import Context
from orchestrator.store import open_store, schema

TINY = Size("tiny")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d{6}Z")
WRITTEN = ("signals", "signal_deliveries", "agent_activity", "stories", "assignments", "agent_sessions")


class Here(Place):
    """The tests' own stores: durability is no matter here."""

    def __init__(self, folder, new_url):
        super().__init__(folder)
        self.new_url = new_url

    def store(self, kind):
        url = self.new_url()
        schema.create(url)
        return url


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, store_kind, new_store_url, tmp_path):
    measure = importlib.import_module(f"benchmarks.{name}").measure
    figures = measure(Here(tmp_path, new_store_url), store_kind, TINY)
    assert figures
    for one in figures:
        assert one.store == store_kind
        assert one.ours > 0 or one.name == "idle_cpu"
        assert one.floor is None or one.floor > 0


@pytest.fixture
def two(new_store_url):
    """Two stores with the same past: (ours, bare driver, store of the bare one)."""
    urls = [new_store_url(), new_store_url()]
    for url in urls:
        schema.create(url)
        history.load(url, stories=20, signals=40, ready=4, senders=2)
    with open_store(urls[0]) as ours, open_store(urls[1]) as other:
        db = floor.driver(urls[1])
        yield ours, db, other
        db.close()


def _plain(value):
    """A row's values, with every id and moment alike, so that two stores can be compared."""
    if isinstance(value, dict | list):
        value = json.dumps(value, sort_keys=True)
    return _MOMENT.sub("MOMENT", _ID.sub("ID", value)) if isinstance(value, str) else value


def _rows(store):
    with store.read() as reader:
        found = {}
        for table in WRITTEN:
            rows = reader.all(f"history.{table}") if table != "agent_activity" else reader.all(
                "activity.page", after=0, size=1000
            )  # fmt: skip
            found[table] = sorted(
                json.dumps({column: _plain(value) for column, value in row.items()}, sort_keys=True) for row in rows
            )
    return found


def test_the_floor_of_a_send_writes_what_maf_writes(two):
    ours, db, other = two
    before = _rows(other)
    signals.send(Context(ours).acting("sender-1"), "help_needed", {"question": "Why?"})
    floor.send(db, "sender-1", "Why?")
    assert _rows(ours) == _rows(other) != before


def test_the_floor_of_a_claim_writes_what_maf_writes(two):
    ours, db, other = two
    for n in (0, 1):
        before = _rows(other)
        assert stories.next_story(Context(ours).acting(f"dev-{n}"))["story_code"] == f"NEW-{n}"
        floor.claim(db, f"dev-{n}", history.DOMAINS[n])
        assert _rows(ours) == _rows(other) != before


def test_a_dev_that_let_go_claims_again(two):
    _, db, other = two
    dev = Context(other).acting("dev-0")
    code = stories.next_story(dev)["story_code"]
    floor.let_go(db, "dev-0")
    with other.read() as reader:
        assert reader.one("story.held_by", agent_id="dev-0") is None
        assert reader.must("story.get", code=code)["status"] == "completed"


def test_the_table_says_what_was_missed(tmp_path):
    met = Figure("a", "sqlite", "ms", 1.5, 1.0, 1.5, 2.0)
    missed = Figure("b", "sqlite", "MB", 130.0, None, 130.0, 120.0)
    assert (met.ok, missed.ok) == (True, False)
    lines = report.table([met, missed]).splitlines()
    assert lines[2] == "| a | sqlite | 1.500 ms | 1.000 ms | 1.50 | ≤ 2 | ok |"
    assert lines[3] == "| b | sqlite | 130 MB | - | - | < 120 MB | MISSED |"
    about = report.facts(Here(tmp_path, None), ["sqlite"], TINY)
    report.keep(tmp_path, "x", [met, missed], about)
    assert json.loads((tmp_path / "x.json").read_text())["figures"][1]["ok"] is False
    again = Figure("b", "sqlite", "MB", 110.0, None, 110.0, 120.0)
    report.keep(tmp_path, "x", [again], about)
    kept = json.loads((tmp_path / "x.json").read_text())["figures"]
    assert [(one["name"], one["ok"]) for one in kept] == [("a", True), ("b", True)]
    assert report.table([met, again]) in (tmp_path / "x.md").read_text()
    assert not [value for value in about.values() if isinstance(value, str) and str(Path.cwd()) in value]
