"""What happened: the audit log as a person reads it, the board as it was, and the proof that the log is complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain import names
from orchestrator.domain import replay as fold
from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.moments import is_moment
from orchestrator.service.context import Context
from orchestrator.store import Reader, Row

PAGE = 1000
"""Entries of the log read at a time."""
FOREVER = "9999-12-31T23:59:59.999999Z"

_SHOWN = ("reason", "to", "agent", "wave", "story", "type", "gate", "commit", "role", "scope", "value", "outcome")
_TOLD_OF = {"stories": "", "waves": "wave ", "agent_sessions": "session "}


def replay(ctx: Context, *, until: str = FOREVER) -> fold.Tables:
    """The tables as the log gives them from empty, up to the moment ``until``. Memory is that of the tables."""
    with ctx.store.read() as reader:
        return _replay(reader, until)


def _replay(reader: Reader, until: str) -> fold.Tables:
    tables = fold.empty()
    for entry in _pages(reader, until):
        fold.apply(tables, entry["details"].get("changes", ()))
    return tables


def _pages(reader: Reader, until: str) -> Iterator[Row]:
    after = 0
    while page := reader.all("history.page", after=after, until=until, size=PAGE):
        yield from page
        after = page[-1]["seq"]


def differences(ctx: Context) -> list[Row]:
    """Where the log, replayed from empty, does not give the tables row for row; empty when it does.

    Left out are heartbeats and leases, the marks of delivery, idempotency keys and the schema's version.
    """
    with ctx.store.read() as reader:
        try:
            replayed = _replay(reader, FOREVER)
        except fold.BrokenLog as broken:
            return [{"table": "agent_activity", "key": (), "column": None, "replayed": str(broken), "actual": None}]
        return fold.differences(replayed, {table: reader.all(f"history.{table}") for table in fold.KEYS})


def history(ctx: Context, code: str | None = None, limit: int = 50) -> list[Row]:
    """The newest ``limit`` entries of the log, newest first; those of one story or wave where ``code`` is given.

    Each is ``{seq, time, who, what, story, summary}``. NotFound: no story or wave has that code.
    """
    if limit < 1:
        raise InvalidInput(f"{limit} entries cannot be shown", hint="Give --limit 1 or more.")
    with ctx.store.read() as reader:
        return [_entry(row) for row in _chosen(reader, code, limit)]


def _chosen(reader: Reader, code: str | None, limit: int) -> list[Row]:
    if code is None:
        return reader.all("activity.latest", after=0, size=limit)
    names.code(code, "the code")
    if story := reader.one("story.get", code=code):
        return reader.all("activity.of_story", story_id=story["id"], size=limit)
    if wave := reader.one("wave.get", code=code):
        return reader.all("history.of_wave", wave_id=wave["id"], wave_code=code, size=limit)
    raise NotFound(f"there is no story or wave {code!r}", hint="See `maf story list` and `maf wave list`.")


def _entry(row: Row) -> Row:
    return {
        "seq": row["seq"],
        "time": row["created_at"],
        "who": row["agent_id"],
        "what": row["activity_type"],
        "story": row["story_code"],
        "summary": _summary(row["details"]),
    }


def _summary(details: dict[str, Any]) -> str:
    """``reason: …, to: dev-1; now assigned, gate 1; sent story_assigned`` of what an entry holds."""
    said = ", ".join(f"{name}: {details[name]}" for name in _SHOWN if details.get(name) not in (None, ""))
    became: list[str] = []
    sent: list[str] = []
    for table, op, image in details.get("changes", ()):
        if table == "signals" and op == "insert":
            sent.append(image["signal_type"])
        elif table in _TOLD_OF:
            gate = image.get("current_gate") if table == "stories" else None
            became += [f"{_TOLD_OF[table]}{image['status']}"] if "status" in image else []
            became += [f"gate {gate}"] if gate is not None else []
    parts = [said, f"now {', '.join(became)}" if became else "", f"sent {', '.join(sent)}" if sent else ""]
    return "; ".join(part for part in parts if part)


def state_at(ctx: Context, moment: str) -> dict[str, Any]:
    """The board as it was at ``moment`` (UTC, fixed width): ``{at, waves, stories, agents, stops}``."""
    if not is_moment(moment):
        raise InvalidInput(f"{moment!r} is no moment", hint="Write it like 2026-11-22T10:30:00.000000Z.")
    tables = replay(ctx, until=moment)
    waves = {row["id"]: row["wave_code"] for row in tables["waves"].values()}
    codes = {row["id"]: row["story_code"] for row in tables["stories"].values()}
    stories = [{**row, "wave_code": waves.get(row.get("wave_id"))} for row in tables["stories"].values()]
    counts: dict[str, dict[str, int]] = {}
    for story in stories:
        of = counts.setdefault(story["wave_code"] or "", {})
        of[story["status"]] = of.get(story["status"], 0) + 1
    return {
        "at": moment,
        "waves": [{**row, "counts": counts.get(row["wave_code"], {})} for row in tables["waves"].values()],
        "stories": stories,
        "agents": [
            {**row, "story_code": codes.get(row.get("current_story_id"))}
            for row in tables["agent_sessions"].values()
            if row["status"] != lc.SessionStatus.TERMINATED
        ],
        "stops": [row for row in tables["emergency_stops"].values() if row.get("lifted_at") is None],
    }
