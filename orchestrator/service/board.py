"""The state at one look: reads only, one snapshot."""

from __future__ import annotations

from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.service.context import Context
from orchestrator.service.transitions import find_story
from orchestrator.store import Row

MONITORING = ("monitor.agents", "monitor.stories", "monitor.signals", "monitor.waves")
"""The specification's four monitoring queries."""


def board(ctx: Context) -> dict[str, Any]:
    """Waves with counts, stories in flight or failed, live agents, pending signals by type, stops in force."""
    now = ctx.store.now()
    with ctx.store.read() as reader:
        edges = reader.all("wave.edges")
        waves = [
            {
                **{c: w[c] for c in ("wave_code", "name", "status", "stories", "completed", "failed")},
                "after": sorted(e["after"] for e in edges if e["code"] == w["wave_code"]),
            }
            for w in reader.all("wave.list")
        ]
        agents = [
            {
                **{c: a[c] for c in ("agent_id", "agent_type", "domain", "status", "story_code", "last_heartbeat")},
                "live": a["lease_until"] > now,
            }
            for a in reader.all("session.list")
            if a["status"] != lc.SessionStatus.TERMINATED
        ]
        counts = {row["status"]: row["stories"] for row in reader.all("board.story_counts")}
        return {
            "waves": waves,
            "stories": {str(status): counts.get(status, 0) for status in lc.StoryStatus},
            "in_flight": reader.all("board.flight"),
            "agents": agents,
            "pending_signals": reader.all("board.pending"),
            "stops": reader.all("stop.in_force"),
        }


def signals(ctx: Context, *, story: str | None = None, status: str | None = None, limit: int = 100) -> list[Row]:
    """Signals of everybody, the newest first. NotFound: there is no such story."""
    with ctx.store.read() as reader:
        if story is not None:
            find_story(reader, story)
        return reader.all("board.signals", story=story, status=status, size=limit)


def monitoring(ctx: Context) -> dict[str, list[Row]]:
    """The rows of the four monitoring queries."""
    with ctx.store.read() as reader:
        return {name: reader.all(name) for name in MONITORING}
