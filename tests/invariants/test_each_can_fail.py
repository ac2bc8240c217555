"""Each invariant is seen to fail: a violation is planted behind maf's back, and that one is reported, no other.

Whatever is planted also contradicts the log (15.replay), but for what the log does not tell of. Where the workflow's
invariants imply each other, the implied ones are named beside the planted one.
"""

import pytest

from tests.support.invariants import assert_invariants, broken

LATE, EARLY = "2099-01-01T00:00:00.000000Z", "2001-01-01T00:00:00.000000Z"
ID = "00000000-0000-4000-a000-00000000000{}"


def story(code):
    return f"(SELECT id FROM stories WHERE story_code = '{code}')"


def wave(code):
    return f"(SELECT id FROM waves WHERE wave_code = '{code}')"


def signal(kind):
    return f"(SELECT id FROM signals WHERE signal_type = '{kind}' ORDER BY created_at LIMIT 1)"


def gate(code, frm, to):
    return f"story_id = {story(code)} AND from_gate = {frm} AND to_gate = {to}"


ALONE, WITH_LOG = frozenset(), frozenset({"15.replay"})
PLANTS = [
    ("1.one_open_assignment", WITH_LOG, [
        "DROP INDEX assignments_one_open",
        ("INSERT INTO assignments (story_id, agent_id, epoch, fencing_token, assigned_by)"
        f" VALUES ({story('S-2')}, 'dev-2', 1, 2, 'pm')"),
        "UPDATE stories SET fencing_token = 2 WHERE story_code = 'S-2'",
    ]),
    ("1.named_in_story", WITH_LOG, ["UPDATE stories SET assigned_agent = 'qa-1' WHERE story_code = 'S-2'"]),
    ("2.tokens_without_gap", WITH_LOG, ["UPDATE stories SET fencing_token = 5 WHERE story_code = 'S-2'"]),
    ("2.no_overlap", WITH_LOG, [
        f"UPDATE assignments SET ended_at = '{LATE}' WHERE story_id = {story('S-1')} AND fencing_token = 1",
    ]),
    ("3.expired_after_lease", WITH_LOG, [
        (f"UPDATE assignments SET end_reason = 'expired', lease_until = '{LATE}'"
        f" WHERE story_id = {story('S-1')} AND fencing_token = 1"),
    ]),
    ("3.holder_lives", WITH_LOG, ["UPDATE agent_sessions SET status = 'terminated' WHERE agent_id = 'dev-2'"]),
    ("4.dependencies_completed", WITH_LOG, [
        f"INSERT INTO story_dependencies (story_id, depends_on_story_id) VALUES ({story('S-2')}, {story('S-4')})",
    ]),
    ("4.assigned_after_dependencies", WITH_LOG, [
        f"UPDATE stories SET completed_at = '{LATE}' WHERE story_code = 'S-0'",
    ]),
    ("4.waves_completed", WITH_LOG, [
        f"INSERT INTO wave_dependencies (wave_id, depends_on_wave_id) VALUES ({wave('W1')}, {wave('W2')})",
    ]),
    ("5.first_is_entry", WITH_LOG, [
        f"UPDATE gate_transitions SET transition_type = 'reset' WHERE story_id = {story('S-3')} AND from_gate IS NULL",
    ]),
    ("5.chain", WITH_LOG, [f"UPDATE gate_transitions SET transition_type = 'reject' WHERE {gate('S-4', 0, 1)}"]),
    ("5.last_is_current", WITH_LOG, ["UPDATE stories SET current_gate = 2 WHERE story_code = 'S-4'"]),
    ("6.all_gates_passed", WITH_LOG | {"5.chain"}, [
        f"UPDATE gate_transitions SET transition_type = 'reset' WHERE {gate('S-1', 5, 6)}",
    ]),
    ("6.qa_passed", WITH_LOG, [
        f"UPDATE qa_reports SET commit_sha = '{'9' * 40}' WHERE story_id = {story('S-1')} AND verdict = 'pass'",
    ]),
    ("6.qa_passed", WITH_LOG, [
        f"UPDATE qa_reports SET qa_agent = 'dev-2' WHERE story_id = {story('S-1')} AND verdict = 'pass'",
    ]),
    ("6.qa_passed", WITH_LOG, [
        f"UPDATE qa_reports SET created_at = '{EARLY}' WHERE story_id = {story('S-1')} AND verdict = 'pass'",
    ]),
    ("7.evidence", WITH_LOG, [f"UPDATE gate_transitions SET metadata = '{{}}' WHERE {gate('S-2', 0, 1)}"]),
    ("7.evidence", WITH_LOG, [
        ("UPDATE gate_transitions SET metadata = '{\"command\": [\"make\"], \"exit_code\": 2}'"
        f" WHERE {gate('S-1', 1, 2)}"),
    ]),
    ("8.one_merge", WITH_LOG | {"5.chain"}, [
        "DROP INDEX gates_merged_once",
        ("INSERT INTO gate_transitions (story_id, from_gate, to_gate, agent_id, transition_type, metadata, created_at)"
        " SELECT story_id, from_gate, to_gate, agent_id, transition_type, metadata, created_at FROM gate_transitions"
        f" WHERE {gate('S-1', 7, 8)}"),
    ]),
    ("8.merge_names_commit", WITH_LOG, [
        ("UPDATE gate_transitions SET metadata = '{\"command\": [\"true\"], \"exit_code\": 0}'"
        f" WHERE {gate('S-1', 7, 8)}"),
    ]),
    ("10.completed_wave", WITH_LOG, [f"UPDATE stories SET wave_id = {wave('W0')} WHERE story_code = 'S-4'"]),
    ("10.one_completion", WITH_LOG, ["UPDATE signals SET wave_id = NULL WHERE signal_type = 'wave_completed'"]),
    ("10.active_wave_has_work", WITH_LOG, ["UPDATE waves SET status = 'active' WHERE wave_code = 'W2'"]),
    ("10.completed_wave_rests", WITH_LOG, [f"UPDATE stories SET updated_at = '{LATE}' WHERE story_code = 'S-0'"]),
    ("10.one_story_a_dev", WITH_LOG, [
        "UPDATE stories SET assigned_agent = 'dev-2' WHERE story_code = 'S-5'",
        f"UPDATE assignments SET agent_id = 'dev-2' WHERE story_id = {story('S-5')}",
    ]),
    ("11.no_fewer", WITH_LOG, [
        f"DELETE FROM signal_deliveries WHERE signal_id = {signal('merge_complete')} AND addressee = 'qa-1'",
    ]),
    ("11.no_more", WITH_LOG, [
        ("INSERT INTO signal_deliveries (signal_id, kind, addressee)"
        f" VALUES ({signal('merge_complete')}, 'broadcast', 'nobody')"),
    ]),
    ("12.in_order", WITH_LOG, [
        f"UPDATE signal_deliveries SET acknowledged_at = '{EARLY}' WHERE signal_id = {signal('help_needed')}",
    ]),
    ("12.in_order", WITH_LOG, [
        f"UPDATE signal_deliveries SET expired_at = '{LATE}' WHERE signal_id = {signal('help_needed')}",
    ]),
    ("12.processed_once", ALONE, [
        ("INSERT INTO agent_activity (agent_id, activity_type, details) SELECT 'pm', 'signal.done', details"
        " FROM agent_activity WHERE activity_type = 'signal.done'"),
    ]),
    ("12.signal_shows_least_advanced", WITH_LOG, [
        "UPDATE signals SET status = 'acknowledged' WHERE signal_type = 'merge_complete'",
    ]),
    ("13.role_may_send", WITH_LOG, [
        f"UPDATE signals SET from_agent = 'qa-1' WHERE id = {signal('story_approved')}",
    ]),
    ("13.sender_was_live", WITH_LOG, [
        f"UPDATE signals SET created_at = '{EARLY}' WHERE id = {signal('story_approved')}",
    ]),
    ("14.within_budget", WITH_LOG, ["UPDATE agent_runs SET budget_microusd = 5, spent_microusd = 5"]),
    ("15.replay", ALONE, ["UPDATE stories SET title = 'Another' WHERE story_code = 'S-4'"]),
    ("15.replay", ALONE, [f"INSERT INTO waves (id, wave_code, name) VALUES ('{ID.format(1)}', 'W9', 'Nine')"]),
    ("16.one_result", ALONE, ["UPDATE idempotency_keys SET result = '{}'"]),
    ("17.schema_version", ALONE, ["INSERT INTO schema_version (version) VALUES (99)"]),
]  # fmt: skip

# What only one engine's own checks can see.
SQLITE_PLANTS = [
    ("16.timestamps", WITH_LOG | {"17.integrity"}, [
        "PRAGMA ignore_check_constraints = ON",
        "UPDATE waves SET created_at = '2026-11-22 10:00' WHERE wave_code = 'W2'",
        "PRAGMA ignore_check_constraints = OFF",
    ]),
    ("17.integrity", WITH_LOG, [
        "PRAGMA ignore_check_constraints = ON",
        "UPDATE waves SET start_mode = 'sometimes' WHERE wave_code = 'W2'",
        "PRAGMA ignore_check_constraints = OFF",
    ]),
    ("17.foreign_keys", WITH_LOG, [
        "PRAGMA foreign_keys = OFF",
        f"UPDATE stories SET wave_id = '{ID.format(2)}' WHERE story_code = 'S-4'",
    ]),
]  # fmt: skip
POSTGRES_PLANTS = [
    ("16.timestamps", ALONE, ["ALTER TABLE emergency_stops ALTER COLUMN lifted_at TYPE TIMESTAMP"]),
    ("17.integrity", ALONE, ["ALTER TABLE waves ADD CONSTRAINT unlooked CHECK (priority > 1000) NOT VALID"]),
    ("17.foreign_keys", ALONE, ["ALTER TABLE stories DISABLE TRIGGER ALL"]),
]


def _ids(plants):
    return [f"{name}-{index}" for index, (name, _, _) in enumerate(plants)]


def test_a_healthy_store_breaks_none(board):
    assert_invariants(board.user)


@pytest.mark.parametrize(("name", "implied", "statements"), PLANTS, ids=_ids(PLANTS))
def test_a_planted_violation_is_the_one_reported(board, name, implied, statements):
    board.sql(*statements)
    assert set(broken(board.user)) == {name} | implied


@pytest.mark.parametrize("store_kind", ["sqlite"], indirect=True)
@pytest.mark.parametrize(("name", "implied", "statements"), SQLITE_PLANTS, ids=_ids(SQLITE_PLANTS))
def test_what_only_sqlite_can_break(board, name, implied, statements):
    board.sql(*statements)
    assert set(broken(board.user)) == {name} | implied


@pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
@pytest.mark.parametrize(("name", "implied", "statements"), POSTGRES_PLANTS, ids=_ids(POSTGRES_PLANTS))
def test_what_only_postgres_can_break(board, name, implied, statements):
    board.sql(*statements)
    assert set(broken(board.user)) == {name} | implied


def test_every_invariant_has_a_plant():
    from orchestrator.service import invariants
    from orchestrator.store.dialect import query_names

    queries = {q.removeprefix("invariant.") for q in query_names() if q.startswith("invariant.")}
    planted = {name for name, _, _ in (*PLANTS, *SQLITE_PLANTS, *POSTGRES_PLANTS)}
    assert {q for q in queries if not q.startswith("git.")} | {"15.replay"} == planted
    numbers = {int(name.split(".")[0]) for name in planted} | {9}  # 9 is git's alone: test_with_git
    assert numbers == set(invariants.TITLES)
