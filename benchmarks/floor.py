"""The bare floors: the rows that maf writes, by the driver alone, one transaction each, as durable as maf's.

No session is looked at, no role, no guard, no stop, nothing is swept, nobody is told: what is left is the price of the
rows themselves. The reads that a claim cannot do without (which story?) are folded into its writes.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import apsw
import psycopg

Row = tuple[Any, ...]

HEARTBEAT = "UPDATE agent_sessions SET last_heartbeat = :now, lease_until = :lease WHERE agent_id = :agent"
SIGNAL = """
INSERT INTO signals (id, signal_type, from_agent, to_agent, story_id, wave_id, payload, status, priority, created_at,
                     chain_depth)
VALUES (:signal, :type, :sender, :to, :story, :wave, :payload, 'pending', 1, :now, 0)"""
DELIVERY = """
INSERT INTO signal_deliveries (id, signal_id, kind, addressee, status, priority, sent_at)
VALUES (:delivery, :signal, :kind, :to, 'pending', 1, :now)"""
ACTIVITY = """
INSERT INTO agent_activity (id, agent_id, activity_type, story_id, details, created_at)
VALUES (:id, :agent, :type, :story, :details, :now)"""
CLAIM = """
UPDATE stories SET status = 'assigned', assigned_agent = :agent, assigned_at = :now, fencing_token = fencing_token + 1,
       updated_at = :now
 WHERE id = (SELECT id FROM stories WHERE status = 'ready' AND domain = :domain
              ORDER BY priority, created_at, id LIMIT 1)
RETURNING id, story_code, wave_id, fencing_token"""
ASSIGNMENT = """
INSERT INTO assignments (id, story_id, agent_id, epoch, fencing_token, assigned_by, assigned_at)
VALUES (:id, :story, :agent, 1, :token, 'maf', :now)"""
ANSWERED = """
UPDATE signals SET status = 'processed', acknowledged_at = :now, processed_at = :now
 WHERE story_id = :story AND status IN ('pending', 'acknowledged') RETURNING id"""
ANSWERED_DELIVERY = """
UPDATE signal_deliveries SET status = 'processed', taken_by = 'maf', acknowledged_at = :now, processed_at = :now
 WHERE signal_id = :answered AND status IN ('pending', 'acknowledged') RETURNING id"""
HOLD = """
UPDATE agent_sessions SET last_heartbeat = :now, lease_until = :lease, current_story_id = :story, current_gate = 1,
       last_progress = :now
 WHERE agent_id = :agent RETURNING id"""
LET_GO = (
    "UPDATE stories SET status = 'completed', current_gate = 8 WHERE assigned_agent = :agent AND status = 'assigned'",
    "UPDATE assignments SET ended_at = :now, end_reason = 'completed' WHERE agent_id = :agent AND ended_at IS NULL",
    "UPDATE agent_sessions SET current_story_id = NULL, current_gate = NULL WHERE agent_id = :agent",
    "UPDATE signal_deliveries SET status = 'processed' WHERE addressee = :agent AND status = 'pending'",
    "UPDATE signals SET status = 'processed' WHERE to_agent = :agent AND status = 'pending'",
)
"""Untimed: makes room for the next claim of an agent, in the floor's store and in maf's alike."""


class Driver(Protocol):
    """A driver, bare."""

    def begin(self) -> None:
        """Open a write transaction."""

    def commit(self) -> None:
        """Make it durable."""

    def run(self, sql: str, parameters: dict[str, Any]) -> list[Row]:
        """One statement."""

    def close(self) -> None:
        """Let go."""


class Sqlite:
    """apsw alone: WAL and ``synchronous=FULL``, as maf has it."""

    def __init__(self, url: str) -> None:
        self.connection = apsw.Connection(url.removeprefix("sqlite:///"))
        self.connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")

    def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def run(self, sql: str, parameters: dict[str, Any]) -> list[Row]:
        return self.connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        self.connection.close()


class Postgres:
    """psycopg alone; statements are prepared by the server after their first runs, as maf's are."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.prepare_threshold = 2
        self._texts: dict[str, str] = {}

    def begin(self) -> None:
        self.connection.execute("BEGIN")

    def commit(self) -> None:
        self.connection.execute("COMMIT")

    def run(self, sql: str, parameters: dict[str, Any]) -> list[Row]:
        text = self._texts.get(sql) or self._texts.setdefault(sql, re.sub(r":([a-z]+)", r"%(\1)s", sql))
        cursor = self.connection.execute(text, parameters)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        self.connection.close()


def driver(url: str) -> Driver:
    """The bare driver for a store's URL."""
    return Sqlite(url) if url.startswith("sqlite:") else Postgres(url)


def _moments() -> tuple[str, str]:
    now = datetime.now(UTC)
    ends = now + timedelta(hours=8)
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), ends.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _insert(
    db: Driver, now: str, kind: str, how: str, sender: str, to: str, payload: dict[str, Any], story: str | None = None,
    wave: str | None = None,
) -> list[Any]:  # fmt: skip
    """A signal and its delivery; what the log says of them."""
    signal, delivery = str(uuid.uuid4()), str(uuid.uuid4())
    db.run(SIGNAL, {
        "signal": signal, "type": kind, "sender": sender, "to": to, "story": story, "wave": wave,
        "payload": json.dumps(payload), "now": now,
    })  # fmt: skip
    db.run(DELIVERY, {"delivery": delivery, "signal": signal, "kind": how, "to": to, "now": now})
    image = {
        "id": signal, "signal_type": kind, "from_agent": sender, "to_agent": to, "story_id": story, "wave_id": wave,
        "payload": payload, "status": "pending", "priority": 1, "created_at": now, "chain_depth": 0,
    }  # fmt: skip
    return [
        ["signals", "insert", {k: v for k, v in image.items() if v is not None}],
        ["signal_deliveries", "insert", {
            "id": delivery, "signal_id": signal, "kind": how, "addressee": to, "status": "pending", "priority": 1,
            "sent_at": now, "redeliveries": 0,
        }],
    ]  # fmt: skip


def _log(db: Driver, agent: str, kind: str, story: str | None, details: dict[str, Any], now: str) -> None:
    text = json.dumps(details, ensure_ascii=False, separators=(",", ":"))
    db.run(ACTIVITY, {
        "id": str(uuid.uuid4()), "agent": agent, "type": kind, "story": story, "details": text, "now": now,
    })  # fmt: skip


def send(db: Driver, agent: str, question: str) -> None:
    """What ``signals.send(…, "help_needed", {"question": …})`` writes for an agent that holds no story."""
    now, lease = _moments()
    db.begin()
    db.run(HEARTBEAT, {"now": now, "lease": lease, "agent": agent})
    payload = {"question": question, "story_id": None}
    changes = _insert(db, now, "help_needed", "role", agent, "role:pm", payload)
    _log(db, agent, "signal.send", None, {"type": "help_needed", "changes": changes}, now)
    db.commit()


def claim(db: Driver, agent: str, domain: str) -> None:
    """What ``stories.next_story`` writes for a dev of ``domain``."""
    now, lease = _moments()
    db.begin()
    story, code, wave, token = db.run(CLAIM, {"agent": agent, "now": now, "domain": domain})[0]
    story, wave = str(story), str(wave)
    assignment = {
        "id": str(uuid.uuid4()), "story_id": story, "agent_id": agent, "epoch": 1, "fencing_token": token,
        "assigned_by": "maf", "assigned_at": now,
    }  # fmt: skip
    db.run(ASSIGNMENT, {"id": assignment["id"], "story": story, "agent": agent, "token": token, "now": now})
    changes: list[Any] = [
        ["assignments", "insert", assignment],
        ["stories", "update", {
            "id": story, "status": "assigned", "assigned_agent": agent, "assigned_at": now, "fencing_token": token,
            "updated_at": now,
        }],
    ]  # fmt: skip
    seen = {"status": "processed", "acknowledged_at": now, "processed_at": now}
    for (answered,) in db.run(ANSWERED, {"now": now, "story": story}):
        for (delivery,) in db.run(ANSWERED_DELIVERY, {"now": now, "answered": answered}):
            changes.append(["signal_deliveries", "update", {"id": str(delivery), "taken_by": "maf", **seen}])
        changes.append(["signals", "update", {"id": str(answered), **seen}])
    session = db.run(HOLD, {"now": now, "lease": lease, "story": story, "agent": agent})[0][0]
    held = {"id": str(session), "current_story_id": story, "current_gate": 1, "last_progress": now}
    changes.append(["agent_sessions", "update", held])
    payload = {"story_id": story, "story_code": code}
    changes += _insert(db, now, "story_assigned", "direct", "maf", agent, payload, story, wave)
    _log(db, "maf", "story.assign", story, {"to": agent, "pulled": True, "changes": changes}, now)
    db.commit()


def let_go(db: Driver, agent: str) -> None:
    """Untimed: the agent's story is finished, its inbox empty."""
    now, _ = _moments()
    db.begin()
    for statement in LET_GO:
        db.run(statement, {"agent": agent, "now": now})
    db.commit()
