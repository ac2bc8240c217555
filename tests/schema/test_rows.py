"""One corpus of statements: both stores accept each, or both refuse it for the same kind of reason."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import apsw
import psycopg
import pytest
from psycopg import errors as pg

from orchestrator.domain import ids, moments
from tests.schema import live, parsed

W1, W2, S1, S2, G1, R1, A1, SIG1 = (f"0190a6d0-0000-7000-8000-00000000000{n}" for n in range(1, 9))
NOBODY = "0190a6d0-0000-7000-8000-0000000000ff"
T = "2026-11-22T10:00:00.000000Z"

BASE: list[tuple[str, dict[str, Any]]] = [
    ("waves", {"id": W1, "wave_code": "W1", "name": "First"}),
    ("waves", {"id": W2, "wave_code": "W2", "name": "Second"}),
    ("stories", {"id": S1, "wave_id": W1, "story_code": "S-1", "title": "One", "domain": "core"}),
    ("stories", {"id": S2, "wave_id": W1, "story_code": "S-2", "title": "Two", "domain": "core"}),
    ("gate_transitions", {"id": G1, "story_id": S1, "to_gate": 8, "agent_id": "cto", "transition_type": "advance"}),
    ("agent_sessions", {"agent_id": "dev-1", "agent_type": "dev"}),
    ("agent_activity", {"id": A1, "agent_id": "dev-1", "activity_type": "seen"}),
    ("signals", {"id": SIG1, "signal_type": "blocked", "from_agent": "dev-1"}),
    ("signal_deliveries", {"signal_id": SIG1, "kind": "role", "addressee": "role:pm"}),
    (
        "assignments",
        {"id": R1, "story_id": S1, "agent_id": "dev-1", "epoch": 1, "fencing_token": 1, "assigned_by": "pm"},
    ),
    ("agent_epochs", {"agent_id": "dev-1", "epoch": 1, "agent_type": "dev", "launched_by": "hand"}),
    ("wave_dependencies", {"wave_id": W2, "depends_on_wave_id": W1}),
    ("story_dependencies", {"story_id": S2, "depends_on_story_id": S1}),
    ("domain_ownership", {"domain": "core"}),
    ("idempotency_keys", {"idempotency_key": "k", "agent_id": "pm", "use_case": "u", "request_digest": "d"}),
]

LEAST: dict[str, dict[str, Any]] = {
    "waves": {"wave_code": "W9", "name": "n"},
    "stories": {"story_code": "S-9", "title": "t", "domain": "core"},
    "signals": {"signal_type": "blocked", "from_agent": "a"},
    "agent_sessions": {"agent_id": "dev-9", "agent_type": "dev"},
    "agent_activity": {"agent_id": "a", "activity_type": "t"},
    "gate_transitions": {"story_id": S2, "to_gate": 0, "agent_id": "a", "transition_type": "advance"},
    "qa_reports": {"story_id": S1, "qa_agent": "qa", "verdict": "pass"},
    "wave_dependencies": {"wave_id": W1, "depends_on_wave_id": W2},
    "story_dependencies": {"story_id": S1, "depends_on_story_id": S2},
    "assignments": {"story_id": S2, "agent_id": "a", "epoch": 1, "fencing_token": 1, "assigned_by": "pm"},
    "agent_epochs": {"agent_id": "dev-9", "epoch": 1, "agent_type": "dev", "launched_by": "runner"},
    "signal_deliveries": {"signal_id": SIG1, "kind": "direct", "addressee": "pm"},
    "agent_runs": {"agent_id": "a", "epoch": 1, "agent_type": "dev"},
    "token_usage": {"agent_id": "a"},
    "domain_ownership": {"domain": "auth"},
    "emergency_stops": {"scope": "all", "reason": "r", "stopped_by": "pm"},
    "idempotency_keys": {"idempotency_key": "k9", "agent_id": "a", "use_case": "u", "request_digest": "d"},
    "schema_version": {"version": 9},
}
"""The fewest columns that an INSERT by hand needs, for every table."""


def case(name: str, reason: str | None, table: str, /, **changes: Any) -> Any:
    return pytest.param(reason, table, {**LEAST[table], **changes}, id=name)


ROWS = [
    *(case(f"least {table}", None, table) for table in LEAST),
    *(
        case(f"no {column} in {table}", "null", table, **{column: None})
        for table, row in LEAST.items() for column in row if table != "schema_version"
    ),
    *(
        case(
            f"{column} of {table}, {width + more} of {width}", "length" if more else None, table,
            **{column: "x" * (width + more)},
        )
        for table, column, width in (
            ("waves", "wave_code", 50), ("waves", "name", 255), ("stories", "story_code", 50),
            ("stories", "title", 255), ("stories", "domain", 50), ("stories", "story_type", 50),
            ("stories", "assigned_agent", 100),
            ("stories", "branch_name", 255), ("stories", "base_commit", 64), ("signals", "from_agent", 100),
            ("signals", "to_agent", 100), ("agent_sessions", "agent_id", 100), ("agent_sessions", "vm_identifier", 100),
            ("agent_activity", "activity_type", 100), ("qa_reports", "qa_agent", 100),
            ("signal_deliveries", "addressee", 100), ("idempotency_keys", "idempotency_key", 200),
            ("idempotency_keys", "request_digest", 64), ("emergency_stops", "stopped_by", 100),
        )
        for more in (0, 1)
    ),
    case("width counts characters, not bytes", None, "waves", wave_code="é🙂" * 25),
    case("one character too many, of four bytes", "length", "waves", wave_code="🙂" * 51),
    case("unknown wave status", "check", "waves", status="done"),
    case("a status in capitals", "check", "waves", status="ACTIVE"),
    case("a status with a space", "check", "stories", status="ready "),
    case("unknown story status", "check", "stories", status="merged"),
    case("every status is a word, not null", "null", "stories", status=None),
    case("unknown signal type", "check", "signals", signal_type="hello"),
    case("an extension's signal type", None, "signals", signal_type="pm_rejected"),
    case("unknown signal status", "check", "signals", status="read"),
    case("unknown role", "check", "agent_sessions", agent_type="boss"),
    case("unknown role of an epoch", "check", "agent_epochs", agent_type="boss"),
    case("unknown launcher of an epoch", "check", "agent_epochs", launched_by="cron"),
    case("unknown session status", "check", "agent_sessions", status="asleep"),
    case("unknown transition", "check", "gate_transitions", transition_type="skip"),
    case("unknown verdict", "check", "qa_reports", verdict="maybe"),
    case("unknown delivery kind", "check", "signal_deliveries", kind="fax"),
    case("unknown end of an assignment", "check", "assignments", end_reason="lost"),
    case("unknown outcome of a run", "check", "agent_runs", outcome="meh"),
    case("unknown scope of a stop", "check", "emergency_stops", scope="moon"),
    case("unknown start mode", "check", "waves", start_mode="never"),
    *(case(f"gate {g}", None if 0 <= g <= 8 else "check", "stories", current_gate=g) for g in (-1, 0, 8, 9)),
    case("a transition past the last gate", "check", "gate_transitions", to_gate=9),
    case("the entry has no gate before it", None, "gate_transitions", from_gate=None),
    *(
        case(f"coverage {c}", None if c in (0, 100, None) else "check", "qa_reports", coverage_percent=c)
        for c in (-1, 0, 100, 101, None)
    ),
    case("a lease of no time", "check", "agent_sessions", ttl_seconds=0),
    case("token 0", "check", "assignments", fencing_token=0),
    case("negative tokens used", "check", "token_usage", input_tokens=-1),
    case("negative cost", "check", "token_usage", cost_microusd=-1),
    case("counted neither 0 nor 1", "check", "agent_runs", counted=2),
    case("a wave that waits for itself", "check", "wave_dependencies", depends_on_wave_id=W1),
    case("a story that waits for itself", "check", "story_dependencies", depends_on_story_id=S1),
    case("the greatest integer", None, "stories", priority=2**31 - 1),
    case("an integer too great", "range", "stories", priority=2**31),
    case("an integer too small", "range", "waves", priority=-(2**31) - 1),
    case("more tokens than 32 bits hold", None, "token_usage", output_tokens=2**40),
    case("a text for a number", "type", "stories", story_points="many"),
    case("a text of digits for a number", None, "stories", story_points="3"),
    case("JSON that is none", "json", "stories", acceptance_criteria="[1,"),
    case("JSON of single quotes", "json", "signals", payload="{'a': 1}"),
    case("an empty text for JSON", "json", "signals", payload=""),
    case("an object where a list belongs", "json", "stories", acceptance_criteria="{}"),
    case("a list where an object belongs", "json", "signals", payload="[]"),
    case("null in JSON where an object belongs", "json", "agent_activity", details="null"),
    case("a text in JSON where a list belongs", "json", "qa_reports", findings='"bad"'),
    case("a number in JSON where an object belongs", "json", "gate_transitions", metadata="7"),
    case("no JSON at all", "null", "signals", payload=None),
    case("JSON of much", None, "stories", metadata='{"a": [1, 2.5, true, null, {"é": "🙂"}]}'),
    case("an id of other letters", "id", "waves", id="z190a6d0-0000-7000-8000-000000000001"),
    case("an id with its dashes elsewhere", "id", "waves", id="0190a6d00-000-7000-8000-000000000001"),
    case("an id too short", "id", "waves", id="0190a6d0-0000-7000-8000-00000000000"),
    case("an empty id", "id", "stories", id=""),
    case("a moment", None, "waves", started_at=T),
    case("a moment just before midnight", None, "waves", started_at="2026-12-31T23:59:59.999999Z"),
    case("29 February of a leap year", None, "waves", started_at="2028-02-29T00:00:00.000000Z"),
    case("29 February of another year", "moment", "waves", started_at="2026-02-29T00:00:00.000000Z"),
    case("month 13", "moment", "stories", assigned_at="2026-13-01T00:00:00.000000Z"),
    case("hour 25", "moment", "stories", completed_at="2026-11-22T25:00:00.000000Z"),
    case("minute 61", "moment", "signals", expires_at="2026-11-22T10:61:00.000000Z"),
    case("words for a moment", "moment", "agent_sessions", lease_until="next week, at four in the pm"),
    case("letters in a moment's form", "moment", "agent_sessions", ended_at="abcd-ef-ghTij:kl:mn.opqrstZ"),
    case("a wave twice", "unique", "waves", wave_code="W1"),
    case("a wave's code differs by case", None, "waves", wave_code="w1"),
    case("a story twice", "unique", "stories", story_code="S-1"),
    case("an agent twice", "unique", "agent_sessions", agent_id="dev-1"),
    case("an id twice", "unique", "stories", id=S1),
    case("a log row's id twice", "unique", "agent_activity", id=A1),
    case("an epoch twice", "unique", "agent_epochs", agent_id="dev-1"),
    case("a fencing token twice", "unique", "assignments", story_id=S1, ended_at=T),
    case("two open assignments", "unique", "assignments", story_id=S1, fencing_token=2),
    case("a second, ended assignment", None, "assignments", story_id=S1, fencing_token=2, ended_at=T),
    case("a second merge", "unique", "gate_transitions", story_id=S1, to_gate=8),
    case("a first merge of another story", None, "gate_transitions", to_gate=8),
    case("a signal twice to one addressee", "unique", "signal_deliveries", addressee="role:pm"),
    case("a dependency twice", "unique", "story_dependencies", story_id=S2, depends_on_story_id=S1),
    case("a domain twice", "unique", "domain_ownership", domain="core"),
    case("a key twice", "unique", "idempotency_keys", idempotency_key="k"),
    case("the version twice", "unique", "schema_version", version=1),
    case("a wave that is none", "foreign key", "stories", wave_id=NOBODY),
    case("a story that is none", "foreign key", "signals", story_id=NOBODY),
    case("a report on no story", "foreign key", "qa_reports", story_id=NOBODY),
    case("a gate of no story", "foreign key", "gate_transitions", story_id=NOBODY),
    case("an assignment of no story", "foreign key", "assignments", story_id=NOBODY),
    case("a delivery of no signal", "foreign key", "signal_deliveries", signal_id=NOBODY),
    case("an answer to no signal", "foreign key", "signals", cause_id=NOBODY),
    case("usage of no run", "foreign key", "token_usage", run_id=NOBODY),
    case("a log row of no story", "foreign key", "agent_activity", story_id=NOBODY),
    case("a session on no story", "foreign key", "agent_sessions", current_story_id=NOBODY),
]  # fmt: skip

CHANGES = [
    ("append-only", f"UPDATE agent_activity SET agent_id = 'x' WHERE id = '{A1}'"),
    ("append-only", f"DELETE FROM agent_activity WHERE id = '{A1}'"),
    ("foreign key", f"DELETE FROM waves WHERE id = '{W1}'"),
    ("foreign key", f"DELETE FROM stories WHERE id = '{S1}'"),
    ("foreign key", f"UPDATE stories SET wave_id = '{NOBODY}' WHERE id = '{S1}'"),
    ("check", f"UPDATE stories SET status = 'done' WHERE id = '{S1}'"),
    ("check", f"UPDATE stories SET current_gate = 9 WHERE id = '{S1}'"),
    ("null", f"UPDATE stories SET title = NULL WHERE id = '{S1}'"),
    ("unique", f"UPDATE stories SET story_code = 'S-1' WHERE id = '{S2}'"),
    (
        "unique",
        f"INSERT INTO assignments (story_id, agent_id, epoch, fencing_token, assigned_by) VALUES ('{S1}', 'b', 1, 2, '')"  # noqa: E501,
    ),
    (None, f"UPDATE assignments SET ended_at = '{T}', end_reason = 'released' WHERE id = '{R1}'"),
    (None, f"DELETE FROM story_dependencies WHERE story_id = '{S2}'"),
    (None, "UPDATE agent_sessions SET status = 'terminated' WHERE agent_id = 'dev-1'"),
]  # fmt: skip


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory):
    connection = live.apply_with_apsw(str(tmp_path_factory.mktemp("rows") / "maf.db"))
    for table, row in BASE:
        connection.execute(*_insert(table, row, "?"))
    yield connection
    connection.close()


@pytest.fixture
def both(sqlite, postgres_url, new_sqlite_url):
    """Both stores with the base rows, in a transaction that is rolled back."""
    postgres = live.apply_with_psycopg(postgres_url)
    for table, row in BASE:
        postgres.execute(*_insert(table, row, "%s"))
    with contextlib.closing(postgres):
        sqlite.execute("BEGIN")
        yield sqlite, postgres
        sqlite.execute("ROLLBACK")


def _insert(table: str, row: dict[str, Any], mark: str) -> tuple[str, tuple[Any, ...]]:
    return (
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join([mark] * len(row))}) RETURNING *",
        tuple(row.values()),
    )


def on_sqlite(connection: apsw.Connection, sql: str, values: tuple[Any, ...] = ()) -> str | None:
    """Why SQLite refuses; None: it accepts."""
    try:
        connection.execute(sql, values).fetchall()
    except apsw.ConstraintError as error:
        kinds = {
            apsw.SQLITE_CONSTRAINT_NOTNULL: "null",
            apsw.SQLITE_CONSTRAINT_UNIQUE: "unique",
            apsw.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
            apsw.SQLITE_CONSTRAINT_ROWID: "unique",
            apsw.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign key",
            apsw.SQLITE_CONSTRAINT_DATATYPE: "type",
        }
        if error.extendedresult == apsw.SQLITE_CONSTRAINT_TRIGGER:
            return "append-only" if "append-only" in str(error) else str(error)
        if error.extendedresult != apsw.SQLITE_CONSTRAINT_CHECK:
            return kinds[error.extendedresult]
        forms = {
            "length": r"length\(\w+\) <= \d+",
            "json": r"json_valid\(.*",
            "id": r"id GLOB '\?{8}-.*",
            "moment": r"\w+ GLOB '\?{4}-.*",
            "range": r"\w+ BETWEEN -2147483648 AND 2147483647",
        }
        failed = str(error).split("failed: ", 1)[1]
        return next((kind for kind, form in forms.items() if re.fullmatch(form, failed, re.DOTALL)), "check")
    return None


def on_postgres(connection: psycopg.Connection[Any], sql: str, values: tuple[Any, ...] = ()) -> str | None:
    """Why Postgres refuses; None: it accepts."""
    try:
        with connection.transaction():
            connection.execute(sql.encode(), values or None)
    except pg.CheckViolation as error:
        definition = connection.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = %s"
            " AND connamespace = current_schema()::regnamespace", [error.diag.constraint_name],
        ).fetchone()  # fmt: skip
        return "json" if definition and "jsonb_typeof" in definition[0] else "check"
    except pg.InvalidTextRepresentation as error:
        return next(
            kind for word, kind in (("uuid", "id"), ("json", "json"), ("integer", "type")) if word in str(error)
        )
    except psycopg.Error as error:
        kinds = {
            pg.NotNullViolation: "null",
            pg.UniqueViolation: "unique",
            pg.ForeignKeyViolation: "foreign key",
            pg.StringDataRightTruncation: "length",
            pg.NumericValueOutOfRange: "range",
            pg.InvalidDatetimeFormat: "moment",
            pg.DatetimeFieldOverflow: "moment",
        }
        if type(error) is pg.IntegrityConstraintViolation:
            return "append-only" if "append-only" in str(error) else str(error)
        return kinds[type(error)]
    return None


def test_every_row_gets_the_same_verdict_on_both(sqlite, postgres_url):
    """All in one test: the stores are made once, each row is undone before the next."""
    with contextlib.closing(live.apply_with_psycopg(postgres_url)) as postgres:
        for table, row in BASE:
            postgres.execute(*_insert(table, row, "%s"))
        wrong = []
        for param in ROWS:
            reason, table, row = param.values
            said = {}
            sqlite.execute("BEGIN")
            said["sqlite"] = on_sqlite(sqlite, *_insert(table, row, "?"))
            sqlite.execute("ROLLBACK")
            postgres.execute("BEGIN")
            said["postgres"] = on_postgres(postgres, *_insert(table, row, "%s"))
            postgres.execute("ROLLBACK")
            if set(said.values()) != {reason}:
                wrong.append(f"{param.id}: should be {reason}, {said}")
    assert not wrong, "\n".join(wrong)
    assert len(ROWS) >= 60
    assert len({p.id for p in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("reason", "sql"), CHANGES)
def test_a_change_gets_the_same_verdict_on_both(both, reason: str | None, sql: str):
    sqlite, postgres = both
    assert (on_sqlite(sqlite, sql), on_postgres(postgres, sql)) == (reason, reason)


def test_every_table_is_in_the_corpus():
    assert set(LEAST) == {t.name for t in parsed.tables("sqlite")}


def test_default_ids_are_unique_uuids_and_default_moments_are_now(both):
    sqlite, postgres = both
    for table in parsed.tables("sqlite"):
        if not any(c.name == "id" for c in table.columns):
            continue
        sql, values = _insert(table.name, LEAST[table.name], "?")
        sql = sql.replace("RETURNING *", "RETURNING id")
        sqlite.execute("SAVEPOINT one")
        made = [str(sqlite.execute(sql, values).get)]
        sqlite.execute("ROLLBACK TO one")
        made.append(str(sqlite.execute(sql, values).get))
        row = postgres.execute(sql.replace("?", "%s").encode(), values).fetchone()
        made.append(str(row[0]))
        assert len(set(made)) == 3, table.name
        assert all(ids.is_id(one) for one in made), (table.name, made)
        assert {one[14] for one in made} == {"4"}, "a random UUID's version"
        assert {one[19] for one in made} <= set("89ab"), "the RFC's variant"
    before = moments.after(moments.system_now(), -0.002)
    created = str(sqlite.execute("INSERT INTO waves (wave_code, name) VALUES ('now', 'n') RETURNING created_at").get)
    assert moments.is_moment(created)
    assert before <= created <= moments.system_now()


def test_a_default_lease_is_eight_hours(both):
    sqlite, postgres = both
    sql = "SELECT last_heartbeat, lease_until FROM agent_sessions WHERE agent_id = 'dev-1'"
    heartbeat, lease = sqlite.execute(sql).get
    assert moments.between(heartbeat, lease) == pytest.approx(8 * 3600, abs=0.01)
    row = postgres.execute(sql.encode()).fetchone()
    assert (row[1] - row[0]).total_seconds() == 8 * 3600
