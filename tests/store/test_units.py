"""Reads are snapshots, writes are units: what is handed up, what is logged, what is taken back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.domain import ids, moments
from orchestrator.domain.errors import LostRace
from orchestrator.store import SHARED, Store, Tx, open_store, schema
from tests.store.rows import add_wave, insert_wave, log, wave_codes

SCOPES = ["exclusive", SHARED]


class Broken(Exception):
    pass


def test_both_stores_hand_up_the_same_values(new_sqlite_url, new_postgres_url):
    text = "é 🙂 עברית \u202b العربية 'quote' \"double\" %s %(x)s :name ? \\ \n\ttab" + "x" * 200_000
    metadata = {"n": None, "list": [1, 2.5, True, "🙂"], "nested": {"é": {"deep": []}}, "big": 2**40, "zero": 0}
    now = "2026-11-22T10:00:00.000001Z"
    wave, story = ids.new_id(), ids.new_id()
    found: dict[str, Any] = {}
    for new in (new_sqlite_url, new_postgres_url):
        url = new()
        schema.create(url)
        with open_store(url, clock=lambda: now) as store:

            def work(tx: Tx):
                tx.activity("user", "story.add")
                insert_wave(tx, "W1", id=wave)
                return tx.write(
                    "story.insert", id=story, wave_id=wave, story_code="S-1", title="🙂 title", description=text,
                    acceptance_criteria=json.dumps([{"text": "é"}]), domain="core", story_type="feature", priority=1,
                    story_points=3, status="backlog", metadata=json.dumps(metadata, ensure_ascii=False), now=tx.now,
                )[0]  # fmt: skip

            returned = store.write(work)
            with store.read() as reader:
                read = reader.one("story.by_id", id=story)
                logged = reader.all("activity.page", after=0, size=9)[0]
        assert {k: v for k, v in read.items() if k in returned} == returned
        del logged["seq"]
        found[store.engine.name] = (returned, read, logged)
    assert found["sqlite"] == found["postgres"]
    row = found["sqlite"][0]
    assert row["description"] == text
    assert row["metadata"] == metadata
    assert (row["id"], row["created_at"], row["updated_at"]) == (story, now, now)
    assert (row["current_gate"], row["story_points"], row["assigned_agent"]) == (0, 3, None)
    assert type(row["current_gate"]) is int


def test_a_moment_is_text_of_fixed_width_whatever_its_fraction(store: Store):
    for n, now in enumerate(
        ["2026-11-22T10:00:00.000000Z", "2026-11-22T10:00:00.100000Z", "2099-12-31T23:59:59.999999Z"]
    ):
        store.clock = lambda now=now: now
        assert add_wave(store, f"W{n}")["created_at"] == now


def test_a_snapshot_is_stable_while_another_writes(store: Store, other: Store):
    add_wave(store, "W1")
    with store.read() as reader:
        before = [w["wave_code"] for w in reader.all("wave.list")]
        add_wave(other, "W2")  # and so it does not wait for the reader either
        assert [w["wave_code"] for w in reader.all("wave.list")] == before == ["W1"]
    assert wave_codes(store) == ["W1", "W2"]


def test_a_reader_does_not_wait_for_a_writer(store: Store, other: Store):
    add_wave(store, "W1")

    def work(tx: Tx) -> list[str]:
        tx.activity("user", "wave.add")
        insert_wave(tx, "W2")
        return wave_codes(other)  # in the middle of the write, from another connection

    assert store.write(work) == ["W1"]
    assert wave_codes(other) == ["W1", "W2"]


def test_a_write_sees_its_own_rows_also_through_read(store: Store):
    def work(tx: Tx) -> list[str]:
        tx.activity("user", "wave.add")
        insert_wave(tx, "W1")
        return wave_codes(store)

    assert store.write(work) == ["W1"]


@pytest.mark.parametrize("scope", SCOPES)
def test_an_error_takes_everything_back(store: Store, scope: str):
    add_wave(store, "W1")
    before = log(store)

    def work(tx: Tx) -> None:
        tx.activity("user", "wave.add")
        insert_wave(tx, "W2")
        tx.mark("idempotency.insert", key="k", agent_id="a", use_case="u", digest="d", result="{}", now=tx.now)
        raise Broken

    with pytest.raises(Broken):
        store.write(work, scope=scope)
    assert wave_codes(store) == ["W1"]
    assert log(store) == before
    with store.read() as reader:
        assert reader.one("idempotency.find", key="k") is None
    add_wave(store, "W2")  # the connection is as good as before


def test_a_database_error_takes_everything_back(store: Store):
    def work(tx: Tx) -> None:
        tx.activity("user", "wave.add")
        insert_wave(tx, "W1")
        insert_wave(tx, "W2", status="no status")

    with pytest.raises(Exception, match=r"(?i)check"):
        store.write(work)
    assert wave_codes(store) == []
    assert log(store) == []
    add_wave(store, "W1")


@pytest.mark.parametrize("scope", SCOPES)
def test_a_write_that_changes_nothing_logs_nothing(store: Store, other: Store, scope: str):
    other.engine.prepare_wait()
    assert store.write(lambda tx: len(tx.all("wave.list")), scope=scope) == 0
    assert log(store) == []
    assert other.engine.wait(0.05) is False


def test_changes_hold_every_column_of_an_insert_and_what_an_update_changed(store: Store):
    wave = add_wave(store, "W1", description="d")

    def work(tx: Tx) -> None:
        tx.activity("pm", "wave.start", None, wave="W1")
        tx.swap(
            "wave.save", before=wave, id=wave["id"], expected_status="planning", status="active", started_at=tx.now,
            completed_at=None, now=tx.now,
        )  # fmt: skip
        tx.activity("maf", "nothing.more")

    store.write(work)
    first, second, third = log(store)
    assert (first["activity_type"], first["details"]["wave"]) == ("wave.add", "W1")
    assert first["details"]["changes"] == [["waves", "insert", {k: v for k, v in wave.items() if v is not None}]]
    assert (second["agent_id"], second["activity_type"]) == ("pm", "wave.start")
    with store.read() as reader:
        now = reader.one("wave.by_id", id=wave["id"])
    assert second["details"]["changes"] == [
        ["waves", "update", {"id": wave["id"], "status": "active", "started_at": now["started_at"],
                             "updated_at": now["updated_at"]}]
    ]  # fmt: skip
    assert "changes" not in third["details"]
    assert first["seq"] < second["seq"] < third["seq"]


def test_what_became_null_is_in_the_changes(store: Store):
    wave = add_wave(store, "W1")

    def save(**values: Any):
        def work(tx: Tx):
            tx.activity("pm", "wave.save")
            before = tx.one("wave.by_id", id=wave["id"])
            return tx.swap("wave.save", before=before, id=wave["id"], expected_status="planning", status="planning",
                           now=tx.now, **values)  # fmt: skip

        store.write(work)

    save(started_at="2026-11-22T10:00:00.000000Z", completed_at=None)
    save(started_at=None, completed_at=None)
    assert log(store)[-1]["details"]["changes"][0][2]["started_at"] is None


def test_a_swap_that_finds_another_state_loses(store: Store):
    wave = add_wave(store, "W1")
    before = log(store)

    def work(tx: Tx) -> None:
        tx.activity("pm", "wave.start")
        tx.swap("wave.save", id=wave["id"], expected_status="paused", status="active", started_at=None,
                completed_at=None, now=tx.now)  # fmt: skip

    with pytest.raises(LostRace) as lost:
        store.write(work)
    assert lost.value.exit_code == 4
    assert log(store) == before


def test_the_log_comes_in_the_order_of_commits(store: Store, other: Store):
    for n in range(6):
        add_wave((store, other)[n % 2], f"W{n}")
    rows = log(store)
    assert [r["details"]["wave"] for r in rows] == [f"W{n}" for n in range(6)]
    assert [r["created_at"] for r in rows] == sorted({r["created_at"] for r in rows})


# --- the clock -------------------------------------------------------------------------------------------------


def moment_of(store: Store) -> str:
    def work(tx: Tx) -> str:
        tx.activity("user", "tick")
        return tx.now

    return store.write(work)


def test_moments_strictly_increase_even_where_the_clock_stands(store: Store):
    store.clock = lambda: "2026-11-22T10:00:00.000000Z"
    seen = [moment_of(store) for _ in range(5)]
    assert seen == [f"2026-11-22T10:00:00.00000{n}Z" for n in range(5)]


def test_moments_never_step_back_with_the_clock(store: Store, other: Store):
    store.clock = lambda: "2026-11-22T10:00:00.000000Z"
    other.clock = lambda: "2026-11-22T09:00:00.000000Z"
    seen = [moment_of(s) for s in (store, other, store, other)]
    assert seen == sorted(set(seen))
    assert seen[-1] < "2026-11-22T10:00:01.000000Z"


@pytest.mark.parametrize("minutes", [-10, 10])
def test_postgres_takes_the_servers_clock_and_no_other(postgres_url: str, opened, monkeypatch, minutes: int):
    schema.create(postgres_url)
    real = moments.system_now
    monkeypatch.setattr(moments, "system_now", lambda: moments.after(real(), minutes * 60))
    store = opened(postgres_url)
    for moment in (moment_of(store), store.now()):
        assert abs(moments.between(real(), moment)) < 60


def test_the_database_zone_changes_nothing(postgres_url: str, opened, postgres_server):
    from urllib.parse import quote

    schema.create(postgres_url)
    elsewhere = opened(postgres_url + quote(" -cTimeZone=Asia/Kathmandu"))
    store = opened(postgres_url)
    moment = moment_of(elsewhere)
    assert log(store)[0]["created_at"] == log(elsewhere)[0]["created_at"] == moment
    assert abs(moments.between(moments.system_now(), moment)) < 60
