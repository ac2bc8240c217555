"""Every named query, prepared on both databases with the parameters that it names."""

from __future__ import annotations

import re

import apsw
import pytest

from orchestrator.store import Store
from orchestrator.store.dialect import POSTGRES, SQLITE, _texts, query, query_names

MONITORING = [
    "SELECT agent_id, status, current_gate, last_heartbeat FROM agent_sessions WHERE status != 'terminated';",
    (
        "SELECT story_code, status, current_gate, assigned_agent FROM stories "
        "WHERE status NOT IN ('completed', 'backlog');"
    ),
    "SELECT signal_type, from_agent, to_agent, created_at FROM signals WHERE status = 'pending';",
    """SELECT w.wave_code, COUNT(*) AS total_stories,
       SUM(CASE WHEN s.status = 'completed' THEN 1 ELSE 0 END) AS completed
  FROM waves w JOIN stories s ON s.wave_id = w.id WHERE w.status = 'active' GROUP BY w.wave_code;""",
]
"""The specification's, word for word."""


def prepare(store: Store, name: str) -> None:
    statement = query(name, store.engine.name)
    if store.engine.name == SQLITE:
        nothing = dict.fromkeys(statement.parameters)
        for _ in store.engine.connection.cursor().execute(f"EXPLAIN {statement.sql}", nothing):
            pass
        return
    # The server finds each parameter's type from where it stands, as it does for the driver's untyped texts.
    numbers: dict[str, int] = {}
    sql = re.sub(
        r"%\((\w+)\)s", lambda m: f"${numbers.setdefault(m[1], len(numbers) + 1)}", statement.sql.replace("%%", "%")
    )
    connection = store.engine.connection
    with connection.transaction(force_rollback=True):
        connection.execute(f"PREPARE one AS {sql}".encode(), prepare=False)
        connection.execute(b"DEALLOCATE one", prepare=False)


def test_every_query_prepares(store: Store):
    wrong = []
    for name in query_names():
        try:
            prepare(store, name)
        except Exception as error:  # noqa: BLE001 - all of them at once
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)
    assert len(query_names()) > 80


def test_a_wrong_query_does_not_prepare(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The test above can fail."""
    monkeypatch.setitem(_texts(), "wrong.one", "SELECT nothing FROM waves WHERE id = :id")
    with pytest.raises(Exception, match="nothing"):
        prepare(store, "wrong.one")


@pytest.mark.parametrize("name", [n for n in _texts() if "@" in n])
def test_a_twin_asks_for_the_same(name: str):
    plain, engine = name.split("@")
    assert engine == POSTGRES
    assert query(plain, SQLITE).parameters == query(plain, POSTGRES).parameters
    assert (query(plain, SQLITE).table, query(plain, SQLITE).op) == (
        query(plain, POSTGRES).table, query(plain, POSTGRES).op,
    )  # fmt: skip


@pytest.mark.parametrize("name", query_names())
def test_no_token_is_left_and_nothing_is_named_twice(name: str):
    for engine in (SQLITE, POSTGRES):
        translated = query(name, engine)
        assert "{" not in translated.sql
        assert not translated.sql.rstrip().endswith(";")
        left = re.findall(r"(?<![:\w]):[a-z_]+", translated.sql) if engine == POSTGRES else []
        assert left == []


def test_a_logged_write_returns_its_key(store: Store):
    """What returns no key cannot be replayed from the log."""
    from orchestrator.store.unit import key_of

    for name in query_names():
        statement = query(name, store.engine.name)
        if statement.op is None or "RETURNING" not in statement.sql:
            continue
        returned = statement.sql.split("RETURNING")[1]
        keys = key_of(statement.table or "")
        marked = statement.table == "agent_sessions" and name == "session.renew"
        assert marked or "*" in returned or all(re.search(rf"\b{key}\b", returned) for key in keys), name


@pytest.mark.parametrize("number", range(4))
def test_the_monitoring_queries_run_as_they_stand(store: Store, number: int):
    store.engine.script(
        "INSERT INTO waves (wave_code, name, status) VALUES ('W1', 'n', 'active');"
        "INSERT INTO stories (wave_id, story_code, title, domain, status)"
        " SELECT id, 'S-1', 't', 'core', 'completed' FROM waves;"
        "INSERT INTO stories (wave_id, story_code, title, domain, status, assigned_agent, current_gate)"
        " SELECT id, 'S-2', 't', 'core', 'in_progress', 'dev-1', 2 FROM waves;"
        "INSERT INTO stories (wave_id, story_code, title, domain) SELECT id, 'S-3', 't', 'core' FROM waves;"
        "INSERT INTO agent_sessions (agent_id, agent_type, current_gate) VALUES ('dev-1', 'dev', 2);"
        "INSERT INTO agent_sessions (agent_id, agent_type, status) VALUES ('dev-2', 'dev', 'terminated');"
        "INSERT INTO signals (signal_type, from_agent) VALUES ('blocked', 'dev-1');"
        "INSERT INTO signals (signal_type, from_agent, status) VALUES ('blocked', 'dev-2', 'processed');"
    )
    columns, rows = store.engine.raw(MONITORING[number])
    seen = [
        [value for column, value in zip(columns, row, strict=True) if not column.endswith(("_at", "beat"))]
        for row in rows
    ]
    assert (
        seen
        == [
            [["dev-1", "starting", 2]],
            [["S-2", "in_progress", 2, "dev-1"]],
            [["blocked", "dev-1", None]],
            [["W1", 3, 1]],
        ][number]
    )


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM waves",
        "UPDATE waves SET name = 'x'",
        "CREATE TABLE mine (id INTEGER)",
        "PRAGMA query_only = OFF; DELETE FROM waves",
        "COMMIT; DELETE FROM waves",
        "SELECT 1; COMMIT; BEGIN; DELETE FROM waves; COMMIT",
        "SELECT nothing FROM nowhere",
        "not even SQL",
    ],
)
def test_a_raw_query_cannot_write(store: Store, sql: str):
    from orchestrator.domain.errors import InvalidInput

    store.engine.script("INSERT INTO waves (wave_code, name) VALUES ('W1', 'n')")
    before = store.engine.tables()
    with pytest.raises(InvalidInput) as refused:
        store.engine.raw(sql)
    assert refused.value.exit_code == 2
    assert store.engine.raw("SELECT name FROM waves") == (["name"], [("n",)])
    assert store.engine.tables() == before


def test_a_raw_query_that_finds_nothing_still_names_its_columns(store: Store):
    assert store.engine.raw("SELECT wave_code AS code, name FROM waves") == (["code", "name"], [])


def test_sqlite_is_the_drivers_own(sqlite_url: str):
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)
