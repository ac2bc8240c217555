"""A plan into the store: all of it or nothing."""

from __future__ import annotations

from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import InvalidPlan
from orchestrator.domain.plan import Plan, Problem
from orchestrator.service.context import Act, Context, use_case
from orchestrator.service.graph import refuse_cycle
from orchestrator.service.stories import depend, insert_story
from orchestrator.service.waves import insert_wave
from orchestrator.store import Reader


def known_codes(ctx: Context) -> tuple[set[str], set[str]]:
    """The codes that are taken: (waves, stories)."""
    with ctx.store.read() as reader:
        return _codes(reader)


def _codes(reader: Reader) -> tuple[set[str], set[str]]:
    return {w["wave_code"] for w in reader.all("wave.list")}, {s["story_code"] for s in reader.all("story.codes")}


def refuse_taken(ctx: Context, plan: Plan) -> None:
    """InvalidPlan where the store has one of the plan's codes already: what an import would say, without one."""
    with ctx.store.read() as reader:
        _refuse_taken(reader, plan)


def _refuse_taken(reader: Reader, plan: Plan) -> None:
    taken_waves, taken_stories = _codes(reader)
    problems = [
        Problem(w.source.file if w.source else "plan", w.source.line if w.source else None, "code",
                f"there is already a wave {w.code!r} in the store")
        for w in plan.waves if w.code in taken_waves
    ] + [
        Problem(s.source.file if s.source else "plan", s.source.line if s.source else None, "code",
                f"there is already a story {s.code!r} in the store")
        for s in plan.stories if s.code in taken_stories
    ]  # fmt: skip
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InvalidPlan(
            f"{problems[0]}{more}",
            hint="A plan is imported once: give what is new codes of its own, and leave out what is there.",
            problems=[{"file": p.file, "line": p.line, "field": p.field, "message": p.message} for p in problems],
        )  # fmt: skip


@use_case("plan.import", (lc.USER, lc.Role.PM, lc.Role.CTO))
def import_plan(act: Act, plan: Plan) -> dict[str, Any]:
    """Enter a checked plan: its waves as planning, its stories as backlog. InvalidPlan: a code is taken."""
    tx = act.tx
    _refuse_taken(tx, plan)
    tx.activity(act.agent, "plan.import", format=plan.format, waves=len(plan.waves), stories=len(plan.stories))
    waves = {}
    for wave in plan.waves:
        waves[wave.code] = insert_wave(
            tx, wave.code, name=wave.name, description=wave.description, priority=wave.priority, manual=wave.manual,
            after=(),
        )  # fmt: skip
    for wave in plan.waves:
        for other in wave.after:
            tx.write("wave.depend", wave_id=waves[wave.code]["id"], depends_on_wave_id=waves[other]["id"], now=tx.now)
    stories = {}
    for story in plan.stories:
        stories[story.code] = insert_story(
            tx, act.agent, waves[story.wave], story.code, title=story.title, domain=story.domain,
            description=story.description, criteria=story.criteria, story_type=story.story_type,
            priority=story.priority, points=story.points, metadata=story.metadata,
        )  # fmt: skip
    for story in plan.stories:
        for other in story.after:
            depend(tx, stories[story.code], stories[other])
    refuse_cycle(tx)
    return {
        "format": plan.format,
        "waves": len(plan.waves),
        "stories": len(plan.stories),
        "dependencies": sum(len(s.after) for s in plan.stories),
        "notes": list(plan.notes),
    }
