"""A store with a past: loaded in bulk, so that a million signals take a minute. Seeded: the same for both stores."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import apsw
import psycopg

from benchmarks.common import SEED
from orchestrator.domain import moments

DOMAINS = ("core", "api", "web", "data")
DEVS = 4
_DAY = 86_400_000_000
Table = tuple[str, Sequence[str], Iterator[tuple[Any, ...]]]


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Past:
    """Rows of one history, in the order in which foreign keys want them."""

    def __init__(self, stories: int, signals: int, ready: int, senders: int) -> None:
        self.random = random.Random(SEED)
        self.now = time.time_ns() // 1000
        self.began = self.now - 300 * _DAY
        self.senders, self.ready = senders, ready
        self.count, self.signal_count = stories, signals
        self.lasting = 299 * _DAY
        self.waves = [self.id(self.began + i) for i in range(max(1, stories // 100) + 1)]
        self.ids = [self.id(self.at(i, stories)) for i in range(stories)]
        self.ready_ids = [self.id(self.now - _DAY // 2 + i) for i in range(ready)]
        self.signal_ids = [self.id(self.at(i, signals)) for i in range(signals)]
        self.approved = [self.id(self.now - _DAY // 4 + i) for i in range(ready)]

    def at(self, i: int, of: int) -> int:
        return self.began + self.lasting * i // max(1, of)

    def id(self, micros: int) -> str:
        """A UUIDv7 of that time: history's ids grow as real ones do."""
        low = self.random.getrandbits(74)
        h = f"{micros // 1000:012x}7{low & 0xFFF:03x}{0x8000000000000000 | low >> 12:016x}"
        return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"

    def tables(self) -> Iterator[Table]:
        yield "waves", (
            "id", "wave_code", "name", "status", "started_at", "completed_at", "created_at", "updated_at",
        ), self.all_waves()  # fmt: skip
        yield "stories", (
            "id", "wave_id", "story_code", "title", "acceptance_criteria", "domain", "status", "current_gate",
            "assigned_agent", "completed_at", "created_at", "updated_at", "fencing_token",
        ), self.stories()  # fmt: skip
        yield "agent_sessions", (
            "id", "agent_id", "agent_type", "domain", "status", "last_heartbeat", "started_at", "ttl_seconds",
            "lease_until", "last_progress",
        ), self.sessions()  # fmt: skip
        yield (
            "agent_epochs",
            ("id", "agent_id", "epoch", "agent_type", "domain", "launched_by", "started_at"),
            ((self.id(self.began), s[1], 1, s[2], s[3], "hand", s[6]) for s in self.sessions()),
        )
        yield "assignments", (
            "id", "story_id", "agent_id", "epoch", "fencing_token", "assigned_by", "assigned_at", "ended_at",
            "end_reason",
        ), (
            (self.id(self.at(i, self.count)), s, f"dev-{i % DEVS}", 1, 1, "pm", t := _moment(self.at(i, self.count)), t,
             "completed")
            for i, s in enumerate(self.ids)
        )  # fmt: skip
        yield "gate_transitions", (
            "id", "story_id", "from_gate", "to_gate", "agent_id", "transition_type", "metadata", "created_at",
        ), self.gates()  # fmt: skip
        yield "signals", (
            "id", "signal_type", "from_agent", "to_agent", "story_id", "payload", "status", "processed_at",
            "created_at",
        ), self.signals()  # fmt: skip
        yield "signal_deliveries", (
            "id", "signal_id", "kind", "addressee", "status", "sent_at", "delivered_at", "taken_by", "processed_at",
        ), self.deliveries()  # fmt: skip
        yield (
            "agent_activity",
            ("id", "agent_id", "activity_type", "story_id", "details", "created_at"),
            self.activity(),
        )

    def all_waves(self) -> Iterator[tuple[Any, ...]]:
        """The last is active, with the stories to claim."""
        for i, wave in enumerate(self.waves):
            when = _moment(self.began + i)
            last = i == len(self.waves) - 1
            status = "active" if last else "completed"
            yield wave, f"W{i}", f"Wave {i}", status, when, None if last else when, when, when

    def stories(self) -> Iterator[tuple[Any, ...]]:
        criteria = json.dumps([{"text": "it works as the plan says"}, {"text": "its tests pass"}])
        for i, story in enumerate(self.ids):
            done = i % 100 != 99  # one of a hundred has failed
            when = _moment(self.at(i, self.count))
            yield (
                story, self.waves[i // 100 % (len(self.waves) - 1)], f"OLD-{i}", f"Story {i} of the past", criteria,
                DOMAINS[i % 4], "completed" if done else "failed", 8 if done else 3, f"dev-{i % DEVS}",
                when if done else None, when, when, 1,
            )  # fmt: skip
        for i, story in enumerate(self.ready_ids):
            when = _moment(self.now - _DAY // 2 + i)
            yield (
                story, self.waves[-1], f"NEW-{i}", f"Story {i}", criteria, DOMAINS[i % 4], "ready", 1, None, None, when,
                when, 0,
            )  # fmt: skip

    def sessions(self) -> Iterator[tuple[Any, ...]]:
        began, ends = _moment(self.began), moments.after(_moment(self.now), 8 * 3600)
        everyone: list[tuple[str, str, str | None]] = [(role, role, None) for role in ("cto", "pm", "qa")]
        everyone += [(f"dev-{i}", "dev", DOMAINS[i % 4]) for i in range(DEVS)]
        everyone += [(f"sender-{i}", "dev", None) for i in range(self.senders)]
        for i, (name, role, domain) in enumerate(everyone):
            yield self.id(self.began + i), name, role, domain, "active", began, began, 28800, ends, began

    def gates(self) -> Iterator[tuple[Any, ...]]:
        proof = json.dumps({"command": ["make", "check"], "exit_code": 0, "seconds": 12.5, "log": "gate.log"})
        for i, story in enumerate(self.ids):
            micros = self.at(i, self.count)
            for gate in range(9):
                frm = gate - 1 if gate else None
                when = _moment(micros + gate)
                yield self.id(micros + gate), story, frm, gate, f"dev-{i % DEVS}", "advance", proof, when

    def _signal(self, i: int) -> tuple[str, str, str, str, str, int]:
        """(type, from, to, delivery kind, status, micros) of the i-th."""
        dev = f"dev-{i % DEVS}"
        kinds: tuple[tuple[str, str, str, str], ...] = (
            ("story_assigned", "pm", dev, "direct"), ("ready_for_qa", dev, "role:qa", "role"),
            ("qa_approved", "qa", "role:pm", "role"), ("story_approved", "cto", "role:pm", "role"),
            ("help_needed", f"sender-{i % max(1, self.senders)}", "role:pm", "role"),
        )  # fmt: skip
        # One of fifty expired; one of a thousand still waits, for others than those that are measured.
        status = "pending" if i % 1000 == 999 else "expired" if i % 50 == 49 else "processed"
        found = kinds[i % len(kinds)] if status != "pending" else ("help_needed", "qa", "role:cto", "role")
        return (*found, status, self.at(i, self.signal_count))

    def signals(self) -> Iterator[tuple[Any, ...]]:
        for i, signal in enumerate(self.signal_ids):
            kind, sender, to, _, status, micros = self._signal(i)
            when = _moment(micros)
            story = self.ids[i % self.count]
            payload = json.dumps({"story_id": story, "story_code": f"OLD-{i % self.count}", "question": "Which way?"})
            yield signal, kind, sender, to, story, payload, status, when if status == "processed" else None, when
        for i, story in enumerate(self.ready_ids):
            payload = json.dumps({"story_id": story, "story_code": f"NEW-{i}"})
            when = _moment(self.now - _DAY // 4 + i)
            yield self.approved[i], "story_approved", "cto", "role:pm", story, payload, "pending", None, when

    def deliveries(self) -> Iterator[tuple[Any, ...]]:
        for i, signal in enumerate(self.signal_ids):
            _, _, to, how, status, micros = self._signal(i)
            done = status == "processed"
            when = _moment(micros)
            taker = to if how == "direct" else to.removeprefix("role:")
            yield (
                self.id(micros), signal, how, to, status, when, when if done else None, taker if done else None,
                when if done else None,
            )  # fmt: skip
        for i, signal in enumerate(self.approved):
            micros = self.now - _DAY // 4 + i
            yield self.id(micros), signal, "role", "role:pm", "pending", _moment(micros), None, None, None

    def activity(self) -> Iterator[tuple[Any, ...]]:
        for i, signal in enumerate(self.signal_ids):
            kind, sender, to, _, _, micros = self._signal(i)
            when = _moment(micros)
            change = {"id": signal, "signal_type": kind, "from_agent": sender, "to_agent": to, "created_at": when}
            details = json.dumps({"type": kind, "changes": [["signals", "insert", change]]})
            yield self.id(micros), sender, "signal.send", self.ids[i % self.count], details, when


def load(url: str, *, stories: int, signals: int, ready: int = 0, senders: int = 0) -> None:
    """Fill an empty store: ``stories`` and ``signals`` of the past, ``ready`` stories to claim, live agents.

    Agents: ``cto``, ``pm``, ``qa``, ``dev-0`` to ``dev-3`` (one for each of :data:`DOMAINS`), ``sender-N``.
    """
    past = _Past(stories, signals, ready, senders)
    if url.startswith("sqlite:///"):
        _load_sqlite(url.removeprefix("sqlite:///"), past)
    else:
        _load_postgres(url, past)


def _load_sqlite(path: str, past: _Past) -> None:
    connection = apsw.Connection(path)
    connection.execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; PRAGMA foreign_keys = OFF")
    with connection:
        for table, columns, rows in past.tables():
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
    connection.execute("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _load_postgres(url: str, past: _Past) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.transaction(), connection.cursor() as cursor:
            for table, columns, rows in past.tables():
                with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
        for table, *_ in past.tables():
            connection.execute(f"VACUUM ANALYZE {table}")
        connection.execute("CHECKPOINT")
