"""The two schema files say the same, as a parser reads them; what the specification and the lifecycle name stands."""

from __future__ import annotations

import itertools
import re
from enum import StrEnum

import pytest

from orchestrator.domain import lifecycle as lc
from orchestrator.store import schema
from tests.schema import parsed

SPECIFIED = {
    "waves": "id UUID, wave_code VARCHAR(50), name VARCHAR(255), description TEXT, status VARCHAR(50), priority INT, "
    "started_at TIMESTAMPTZ, completed_at TIMESTAMPTZ, created_at TIMESTAMPTZ, updated_at TIMESTAMPTZ",
    "stories": "id UUID, wave_id UUID, story_code VARCHAR(50), title VARCHAR(255), description TEXT, "
    "acceptance_criteria JSONB, domain VARCHAR(50), story_type VARCHAR(50), priority INT, story_points INT, "
    "assigned_agent VARCHAR(100), assigned_at TIMESTAMPTZ, status VARCHAR(50), current_gate INT, "
    "branch_name VARCHAR(255), started_at TIMESTAMPTZ, completed_at TIMESTAMPTZ, created_at TIMESTAMPTZ, "
    "updated_at TIMESTAMPTZ",
    "signals": "id UUID, signal_type VARCHAR(100), from_agent VARCHAR(100), to_agent VARCHAR(100), story_id UUID, "
    "wave_id UUID, payload JSONB, status VARCHAR(50), priority INT, expires_at TIMESTAMPTZ, "
    "acknowledged_at TIMESTAMPTZ, processed_at TIMESTAMPTZ, created_at TIMESTAMPTZ",
    "agent_sessions": "id UUID, agent_id VARCHAR(100), agent_type VARCHAR(50), domain VARCHAR(50), "
    "vm_identifier VARCHAR(100), status VARCHAR(50), current_story_id UUID, current_gate INT, "
    "last_heartbeat TIMESTAMPTZ, total_tokens_used INT, total_stories_completed INT, started_at TIMESTAMPTZ, "
    "ended_at TIMESTAMPTZ",
    "agent_activity": "id UUID, agent_id VARCHAR(100), activity_type VARCHAR(100), story_id UUID, details JSONB, "
    "created_at TIMESTAMPTZ",
    "gate_transitions": "id UUID, story_id UUID, from_gate INT, to_gate INT, agent_id VARCHAR(100), "
    "transition_type VARCHAR(50), notes TEXT, metadata JSONB, created_at TIMESTAMPTZ",
    "qa_reports": "id UUID, story_id UUID, qa_agent VARCHAR(100), verdict VARCHAR(20), findings JSONB, "
    "coverage_percent INT, created_at TIMESTAMPTZ",
}
"""The specification's tables: their columns in its order, with its types (sqlglot writes INTEGER as INT)."""

REQUIRED = {
    "waves": {"wave_code", "name"},
    "stories": {"story_code", "title", "domain"},
    "signals": {"signal_type", "from_agent"},
    "agent_sessions": {"agent_id", "agent_type"},
    "agent_activity": {"agent_id", "activity_type"},
    "gate_transitions": {"story_id", "to_gate", "agent_id", "transition_type"},
    "qa_reports": {"story_id", "qa_agent", "verdict"},
}
"""What an INSERT by hand has to give: marked ! in the specification."""

DEFAULTS = {
    "waves": {"status": "'planning'", "priority": "1", "created_at": "now", "updated_at": "now"},
    "stories": {
        "acceptance_criteria": "'[]'", "story_type": "'feature'", "priority": "1", "story_points": "1",
        "status": "'backlog'", "current_gate": "0", "created_at": "now", "updated_at": "now",
    },
    "signals": {"payload": "'{}'", "status": "'pending'", "priority": "1", "created_at": "now"},
    "agent_sessions": {
        "status": "'starting'", "last_heartbeat": "now", "total_tokens_used": "0", "total_stories_completed": "0",
        "started_at": "now",
    },
    "agent_activity": {"details": "'{}'", "created_at": "now"},
    "gate_transitions": {"metadata": "'{}'", "created_at": "now"},
    "qa_reports": {"findings": "'[]'", "created_at": "now"},
}  # fmt: skip
"""Marked * in the specification."""

ENUMS: dict[tuple[str, str], type[StrEnum]] = {
    ("waves", "status"): lc.WaveStatus,
    ("stories", "status"): lc.StoryStatus,
    ("signals", "signal_type"): lc.SignalType,
    ("signals", "status"): lc.SignalStatus,
    ("signal_deliveries", "status"): lc.SignalStatus,
    ("agent_sessions", "agent_type"): lc.Role,
    ("agent_sessions", "status"): lc.SessionStatus,
    ("agent_epochs", "agent_type"): lc.Role,
    ("agent_runs", "agent_type"): lc.Role,
    ("agent_runs", "outcome"): lc.RunOutcome,
    ("gate_transitions", "transition_type"): lc.Transition,
    ("qa_reports", "verdict"): lc.Verdict,
    ("assignments", "end_reason"): lc.EndReason,
}
OTHER_LISTS = {
    ("waves", "start_mode"), ("agent_sessions", "launched_by"), ("agent_epochs", "launched_by"),
    ("agent_epochs", "end_reason"), ("signal_deliveries", "kind"), ("agent_runs", "counted"),
    ("emergency_stops", "scope"),
}  # fmt: skip


def by_name(engine: str) -> dict[str, parsed.Table]:
    return {t.name: t for t in parsed.tables(engine)}


def test_the_same_tables_in_the_same_order():
    names = [t.name for t in parsed.tables("sqlite")]
    assert names == [t.name for t in parsed.tables("postgres")]
    assert list(SPECIFIED) == names[1:8], "the specification's seven come first, after the version"


@pytest.mark.parametrize("table", [t.name for t in parsed.tables("postgres")])
def test_a_table_means_the_same(table: str):
    sqlite, postgres = by_name("sqlite")[table], by_name("postgres")[table]
    assert [c.name for c in sqlite.columns] == [c.name for c in postgres.columns]
    for one, other in zip(sqlite.columns, postgres.columns, strict=True):
        assert one == other
    assert sqlite.constraints == postgres.constraints


def test_indexes_and_triggers_are_the_same():
    assert parsed.indexes("sqlite") == parsed.indexes("postgres")
    assert len(parsed.indexes("sqlite")) > 20
    assert parsed.triggers("sqlite") == parsed.triggers("postgres") != []


def test_comments_are_the_same_line_for_line_below_the_header():
    sqlite = parsed.comments("sqlite")
    assert sqlite == parsed.comments("postgres")
    assert len(sqlite) > 30


def test_each_header_names_its_twin():
    assert "schema_postgres.sql" in parsed.text("sqlite").split("\nBEGIN;\n")[0]
    assert "schema_sqlite.sql" in parsed.text("postgres").split("\nBEGIN;\n")[0]


@pytest.mark.parametrize("table", SPECIFIED)
def test_the_specified_columns_stand_with_their_types(table: str):
    create = next(
        s for s in parsed.statements("postgres")
        if s.key == "create" and s.args.get("kind") == "TABLE" and s.this.this.name == table
    )  # fmt: skip
    written = [f"{c.name} {c.args['kind'].sql('postgres')}" for c in create.this.expressions if c.key == "columndef"]
    specified = SPECIFIED[table].split(", ")
    assert [column for column in written if column in specified] == specified


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
@pytest.mark.parametrize("table", SPECIFIED)
def test_required_columns_and_defaults_are_the_specified_ones(engine: str, table: str):
    columns = by_name(engine)[table].columns
    names = [c.split()[0] for c in SPECIFIED[table].split(", ")]
    assert {c.name for c in columns if c.required and c.default is None and c.type != "counter"} == REQUIRED[table]
    defaults = {c.name: c.default for c in columns if c.name in names and c.default is not None}
    assert defaults == {"id": parsed.NEW_ID} | DEFAULTS[table]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_every_check_list_is_the_codes_enum(engine: str):
    listed = {
        (table.name, column.name): re.findall(r"'(\w+)'", check)
        for table in parsed.tables(engine) for column in table.columns
        for check in column.checks if check.startswith("C IN (")
    }  # fmt: skip
    assert set(listed) == set(ENUMS) | OTHER_LISTS
    for place, enum in ENUMS.items():
        assert listed[place] == [str(value) for value in enum], place
    assert set(listed["agent_epochs", "end_reason"]) < set(lc.EndReason)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_gates_reach_from_the_first_to_merged(engine: str):
    for table, column in (("stories", "current_gate"), ("gate_transitions", "to_gate")):
        assert by_name(engine)[table].column(column).checks == [f"C BETWEEN {lc.FIRST_GATE} AND {lc.MERGED_GATE}"]


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_the_code_reads_the_very_file(engine: str):
    assert schema.schema_text(engine).encode() == (parsed.TOP / f"schema_{engine}.sql").read_bytes()


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_every_table_and_extension_says_why(engine: str):
    lines = parsed.text(engine).splitlines()
    undocumented = [
        line for before, line in itertools.pairwise(lines)
        if line.startswith("CREATE TABLE") and not before.startswith("--") and "story_dependencies" not in line
    ]  # fmt: skip
    assert undocumented == []
    for table, columns in SPECIFIED.items():
        specified = {c.split()[0] for c in columns.split(", ")}
        body = parsed.text(engine).split(f"CREATE TABLE {table} (\n")[1].split("\n)")[0]
        reasoned = False
        for line in body.splitlines():
            if line.lstrip().startswith("-- extension: "):
                reasoned = True
            elif found := re.match(r"    ([a-z_]+) +[A-Z]", line):
                assert found[1] in specified or reasoned, f"{table}.{found[1]} has no reason beside it"
                if found[1] in specified:
                    reasoned = False
