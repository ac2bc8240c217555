"""Making, recognising and upgrading a store, on both."""

from __future__ import annotations

import multiprocessing
import re

import pytest

from orchestrator.domain.errors import SchemaMismatch, StoreUnavailable
from orchestrator.store import Store, open_store, schema

FORK = multiprocessing.get_context("fork")
STEP = "CREATE TABLE added (id INTEGER PRIMARY KEY);"


def bare(url: str) -> Store:
    """A store whose schema is not looked at."""
    if url.startswith("sqlite:///"):
        from orchestrator.store.sqlite import SqliteEngine

        return Store(SqliteEngine(url, create=True))
    return open_store(url, check_schema=False)


def test_create_makes_it_once_and_leaves_it_alone_then(store_url: str):
    assert schema.create(store_url) is True
    assert schema.create(store_url) is False
    with open_store(store_url) as store:
        assert schema.version_of(store) == schema.VERSION


def test_an_empty_store_is_refused_with_the_command_that_makes_it(store_url: str):
    bare(store_url).close()
    with pytest.raises(SchemaMismatch, match="empty") as refused:
        open_store(store_url)
    assert refused.value.exit_code == 5
    assert "maf init" in str(refused.value.hint)


def test_a_newer_schema_is_refused_and_named(store_url: str):
    schema.create(store_url)
    with open_store(store_url) as store:
        store.engine.script("INSERT INTO schema_version (version) VALUES (99)")
    for call in (open_store, schema.create):
        with pytest.raises(SchemaMismatch, match=rf"version 99, this maf knows {schema.VERSION}") as refused:
            call(store_url)
        assert refused.value.exit_code == 5
        assert "newer maf" in str(refused.value.hint)
    with bare(store_url) as store, pytest.raises(SchemaMismatch, match="version 99"):
        schema.upgrade(store)


@pytest.mark.parametrize("found", ["waves", "stories", "schema_version"])
def test_tables_of_unknown_origin_are_refused_and_kept(store_url: str, found: str):
    with bare(store_url) as store:
        store.engine.script(f"CREATE TABLE {found} (version INTEGER)")
    for call in (open_store, schema.create):
        with pytest.raises(SchemaMismatch, match="no schema version") as refused:
            call(store_url)
        assert refused.value.exit_code == 5
    with bare(store_url) as store:
        with pytest.raises(SchemaMismatch):
            schema.upgrade(store)
        assert store.engine.tables() == {found}


def test_a_strangers_tables_are_no_hindrance(store_url: str):
    with bare(store_url) as store:
        store.engine.script("CREATE TABLE customers (id INTEGER)")
    assert schema.create(store_url) is True
    with open_store(store_url) as store:
        assert {"customers", "waves"} < store.engine.tables()


def migrating(monkeypatch: pytest.MonkeyPatch, *steps: str) -> None:
    first = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", first + len(steps))
    monkeypatch.setattr(
        schema, "MIGRATIONS", {first + n: {"sqlite": step, "postgres": step} for n, step in enumerate(steps)}
    )


def test_an_older_schema_is_refused_until_upgraded(store_url: str, monkeypatch: pytest.MonkeyPatch):
    schema.create(store_url)
    migrating(monkeypatch, STEP, "INSERT INTO added (id) VALUES (7);")
    with pytest.raises(SchemaMismatch, match="needs 3") as refused:
        open_store(store_url)
    assert "maf db upgrade" in str(refused.value.hint)
    with bare(store_url) as store:
        assert schema.upgrade(store) == [2, 3]
        assert schema.upgrade(store) == []
    with open_store(store_url) as store:
        assert schema.version_of(store) == 3
        assert store.engine.raw("SELECT id FROM added") == (["id"], [(7,)])
        assert store.engine.raw("SELECT version FROM schema_version ORDER BY version")[1] == [(1,), (2,), (3,)]


def test_a_failing_migration_leaves_the_version_before_it(store_url: str, monkeypatch: pytest.MonkeyPatch):
    schema.create(store_url)
    migrating(monkeypatch, STEP, "CREATE TABLE half (id INTEGER); INSERT INTO nowhere VALUES (1);")
    with bare(store_url) as store:
        before = store.engine.tables()
        with pytest.raises(StoreUnavailable, match="nowhere") as failed:
            schema.upgrade(store)
        assert failed.value.exit_code == 5
        assert schema.version_of(store) == 2, "the first step stands"
        assert store.engine.tables() == before | {"added"}
        # The connection is usable, and a repaired migration goes on from there.
        schema.MIGRATIONS[2] = {"sqlite": "SELECT 1;", "postgres": "SELECT 1;"}
        assert schema.upgrade(store) == [3]


def _creates(url: str, start, answers) -> None:
    start.wait()
    try:
        answers.put(schema.create(url))
    except BaseException as error:  # noqa: BLE001 - the parent judges it
        answers.put(repr(error))


def _upgrades(url: str, start, answers) -> None:
    schema.VERSION, schema.MIGRATIONS = 2, {1: {"sqlite": STEP, "postgres": STEP}}
    with open_store(url, check_schema=False) as store:
        start.wait()
        try:
            answers.put(schema.upgrade(store))
        except BaseException as error:  # noqa: BLE001
            answers.put(repr(error))


def at_once(target, url: str, count: int) -> list:
    start, answers = FORK.Barrier(count), FORK.Queue()
    processes = [FORK.Process(target=target, args=(url, start, answers)) for _ in range(count)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    return found


@pytest.mark.parametrize("_round", range(3))
def test_four_processes_create_one_store(new_store_url, _round: int):
    url = new_store_url()
    assert sorted(at_once(_creates, url, 4)) == [False, False, False, True]
    with open_store(url) as store:
        assert store.engine.raw("SELECT version FROM schema_version")[1] == [(schema.VERSION,)]


def test_two_processes_upgrade_once(store_url: str):
    schema.create(store_url)
    assert sorted(at_once(_upgrades, store_url, 2)) == [[], [2]]


def test_where_the_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match=re.escape(str(tmp_path / "file"))) as refused:
        schema.create(f"sqlite:///{tmp_path}/file/maf.db")
    assert refused.value.exit_code == 5
    assert refused.value.hint
