"""Stories: from their entry to submit, and release, fail, reopen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GuardFailed, InvalidInput, LostRace, NotFound, Refused, WrongState
from orchestrator.domain.plan import Criterion
from orchestrator.service import stops, waves
from orchestrator.service.context import Act, Context, use_case
from orchestrator.service.deliveries import emit
from orchestrator.service.graph import refuse_cycle
from orchestrator.service.transitions import (
    check,
    close_assignment,
    fenced,
    find_story,
    free_session,
    gate_row,
    hold_session,
    move,
    passed_with,
    release_held,
)  # fmt: skip
from orchestrator.store import Row, Tx

MAX_INT = 2**31 - 1


def insert_story(
    tx: Tx, agent: str, wave: Row, code: str, *, title: str, domain: str, description: str | None,
    criteria: Sequence[Criterion], story_type: str, priority: int, points: int, metadata: dict[str, Any],
) -> Row:  # fmt: skip
    """Write a new story at gate 0; the caller has opened the activity. InvalidInput for what cannot be stored."""
    names.code(code, "the story code")
    if tx.one("story.get", code=code) is not None:
        raise Refused(f"there is already a story {code!r}", hint="Choose another code.")
    if not 1 <= priority <= MAX_INT or not 0 <= points <= MAX_INT:
        raise InvalidInput("priority is 1 or more, points 0 or more", hint="1 is the most urgent priority.")
    if description is not None:
        names.text(description, "the description")
    items = [
        {"text": names.text(c.text, "a criterion", limit=4000, required=True), **({"id": c.id} if c.id else {})}
        for c in criteria
    ]
    story = tx.write(
        "story.insert", id=ids.new_id(), wave_id=wave["id"], story_code=code,
        title=names.text(title, "the title", limit=255, single_line=True), description=description,
        acceptance_criteria=names.json_text(items, "the criteria"), domain=names.domain(domain),
        story_type=names.text(story_type, "the type", limit=50, single_line=True), priority=priority,
        story_points=points, status=lc.StoryStatus.BACKLOG, metadata=names.json_text(metadata, "the metadata"),
        now=tx.now,
    )[0]  # fmt: skip
    gate_row(tx, story["id"], None, lc.FIRST_GATE, agent, lc.Transition.ADVANCE)
    return {**story, "wave_code": wave["wave_code"], "wave_status": wave["status"]}


@use_case("story.add", (lc.USER, lc.Role.PM, lc.Role.CTO))
def add(
    act: Act, code: str, wave: str, *, title: str, domain: str, description: str | None = None,
    criteria: Sequence[str] = (), story_type: str = "feature", priority: int = 1, points: int = 1,
    after: Sequence[str] = (),
) -> Row:  # fmt: skip
    """Add a story to a wave that has not ended; it enters as backlog before gate 0."""
    found = waves.find_wave(act.tx, wave)
    waves.refuse_ended(found)
    act.tx.activity(act.agent, "story.add", story=code)
    story = insert_story(
        act.tx, act.agent, found, code, title=title, domain=domain, description=description,
        criteria=[Criterion(c) for c in criteria], story_type=story_type, priority=priority, points=points, metadata={},
    )  # fmt: skip
    for other in after:
        depend(act.tx, story, find_story(act.tx, other))
    if after:
        refuse_cycle(act.tx)
    return story


def depend(tx: Tx, story: Row, other: Row) -> None:
    """Make ``story`` wait for ``other``; the caller checks the whole graph afterwards."""
    if story["id"] == other["id"]:
        raise InvalidInput(f"{story['story_code']} cannot depend on itself", hint="Remove it from --after.")
    tx.write("story.depend", story_id=story["id"], depends_on_story_id=other["id"], now=tx.now)


@use_case("story.depend", (lc.USER, lc.Role.PM, lc.Role.CTO))
def add_dependency(act: Act, code: str, after: str) -> None:
    """Make a story wait for another; refused once it is assigned or its wave started, or where it closes a circle."""
    act.tx.activity(act.agent, "story.depend", story=code, after=after)
    story, other = find_story(act.tx, code), find_story(act.tx, after)
    _refuse_late(story)
    depend(act.tx, story, other)
    refuse_cycle(act.tx)
    waves.judge_after_failure(act.tx)  # a story of an active wave may wait behind a failed one now


def _refuse_late(story: Row) -> None:
    """A story that runs, or may any moment, would come to wait for what its wave was not started with."""
    started = story["wave_status"] not in (None, lc.WaveStatus.PLANNING)
    if started or story["status"] not in (lc.StoryStatus.BACKLOG, lc.StoryStatus.READY):
        where = f" in wave {story['wave_code']}, which is {story['wave_status']}" if started else ""
        raise WrongState(
            f"{story['story_code']} is {story['status']}{where}; dependencies are added before it is assigned and "
            "before its wave starts",
            hint="Add a story that waits from its beginning: maf story add CODE --after CODE",
        )


@use_case("story.approve", lc.STORY_ACTIONS["approve"].by)
def approve(act: Act, code: str, *, notes: str | None = None, policy: str | None = None) -> Row:
    """Pass gate 0: the CTO approves a story that has a title, a domain and acceptance criteria."""
    if notes is not None:
        names.text(notes, "the notes", limit=8000)
    story = find_story(act.tx, code)
    action = check("approve", story)
    if not story["acceptance_criteria"]:
        raise GuardFailed(
            f"{code} has no acceptance criteria, which gate 0 asks for",
            hint=f"Fail it (maf story fail {code} --reason …) and add it under another code with --criteria.",
        )
    act.tx.activity(act.agent, "story.approve", story["id"])
    decision = {"by": act.agent, "role": act.role, **({"policy": policy} if policy else {})}
    moved = move(act.tx, story, action, act.agent, notes=notes, evidence={"decision": decision})
    emit(
        act.tx, lc.SignalType.STORY_APPROVED, act.agent, f"role:{lc.Role.PM}",
        {"story_id": story["id"], "story_code": code}, story_id=story["id"], wave_id=story["wave_id"],
    )  # fmt: skip
    return moved


def _refuse_unfit(tx: Tx, story: Row, dev: Row) -> None:
    """GuardFailed where the story waits for others, or the dev is of another domain or holds a story."""
    code, agent = story["story_code"], dev["agent_id"]
    if waiting := tx.all("story.open_dependencies", story_id=story["id"]):
        names_ = ", ".join(f"{w['story_code']} ({w['status']})" for w in waiting)
        raise GuardFailed(f"{code} waits for {names_}", hint="It becomes assignable when they are completed.")
    if dev["agent_type"] != lc.Role.DEV:
        raise GuardFailed(f"{agent} is a {dev['agent_type']}, not a dev", hint="Assign to a dev: maf agent list")
    if dev["domain"] and dev["domain"] != story["domain"]:
        raise GuardFailed(
            f"{agent} works in {dev['domain']}, {code} is in {story['domain']}",
            hint="Choose a dev of that domain, or one registered without a domain.",
        )
    if held := tx.one("story.held_by", agent_id=agent):
        raise GuardFailed(
            f"{agent} already holds {held['story_code']} ({held['status']})", hint="A dev holds one story at a time."
        )


def _assign(tx: Tx, story: Row, dev: Row, by: str, *, stops_in_force: Sequence[Row] | None = None) -> Row:
    """Open an assignment with the next fencing token, send ``story_assigned``. The story with its ``token``."""
    code, agent = story["story_code"], dev["agent_id"]
    action = check("assign", story)
    stops.refuse_stopped(
        tx, agent=agent, domain=story["domain"], wave=story["wave_code"], stops=stops_in_force
    )  # fmt: skip
    token = story["fencing_token"] + 1
    tx.write(
        "assignment.insert", id=ids.new_id(), story_id=story["id"], agent_id=agent, epoch=dev["epoch"],
        fencing_token=token, assigned_by=by, now=tx.now,
    )  # fmt: skip
    moved = move(tx, story, action, by, assigned_agent=agent, assigned_at=tx.now, fencing_token=token)
    hold_session(tx, agent, moved, "hold", session=dev)
    emit(
        tx, lc.SignalType.STORY_ASSIGNED, by, agent, {"story_id": story["id"], "story_code": code},
        story_id=story["id"], wave_id=story["wave_id"], known=True,
    )  # fmt: skip
    return {**moved, "token": token}


@use_case("story.assign", (lc.Role.PM,))
def assign(act: Act, code: str, to: str) -> Row:
    """Give a ready story to a live dev of its domain who holds none; the story with its fencing ``token``."""
    story = find_story(act.tx, code)
    check("assign", story)
    dev = act.tx.one("session.get", agent_id=names.agent_id(to))
    if dev is None:
        raise NotFound(f"no agent is registered as {to!r}", hint="See `maf agent list`.")
    if dev["status"] == lc.SessionStatus.TERMINATED or dev["lease_until"] <= act.now:
        raise GuardFailed(f"the session of {to} has ended", hint=f"maf agent register {to} --role dev")
    act.tx.activity(act.agent, "story.assign", story["id"], to=to)
    _refuse_unfit(act.tx, story, dev)
    return _assign(act.tx, story, dev, act.agent)


@use_case("story.next", (lc.Role.DEV,))
def next_story(act: Act) -> Row:
    """Take the best ready story of the dev's domain. NotFound: nothing is ready; Refused: the dev holds one."""
    assert act.session is not None
    domain = act.session["domain"]
    held, best, in_force = act.tx.each(
        ("story.held_by", {"agent_id": act.agent}),
        ("story.next_of_domain", {"domain": domain}) if domain else ("story.next", {}),
        ("stop.in_force", {}),
    )
    if held:
        raise GuardFailed(
            f"{act.agent} already holds {held[0]['story_code']} ({held[0]['status']})",
            hint="Finish or release it first.",
        )
    if not best:
        raise NotFound(
            f"no story is ready{f' in {domain}' if domain else ''}", hint="See what they wait for: maf story list"
        )
    # The query has seen to the domain and the dependencies; see _refuse_unfit.
    story = best[0]
    act.tx.activity(lc.TOOL, "story.assign", story["id"], to=act.agent, pulled=True)
    return _assign(act.tx, story, act.session, lc.TOOL, stops_in_force=in_force)


@use_case("story.start", lc.STORY_ACTIONS["start"].by)
def start(act: Act, code: str, *, branch: str, base: str) -> Row:
    """Begin an assigned story on its branch, forked from the target's commit ``base``."""
    story = find_story(act.tx, code)
    action = check("start", story)
    assignment = fenced(act, story)
    act.tx.activity(act.agent, "story.start", story["id"])
    moved = move(
        act.tx, story, action, act.agent, branch_name=branch, base_commit=base,
        started_at=story["started_at"] or act.now,
    )  # fmt: skip
    hold_session(act.tx, act.agent, moved, "start")
    return {**moved, "token": assignment["fencing_token"]}


@use_case("story.advance", lc.STORY_ACTIONS["advance"].by)
def advance(
    act: Act, code: str, *, gate: int, evidence: dict[str, Any], checked_since: str | None = None,
    ownership: dict[str, list[str]] | None = None,
) -> Row:  # fmt: skip
    """Pass gate ``gate`` (1 or 2) with the evidence of its check. LostRace: the story stands elsewhere now."""
    story = find_story(act.tx, code)
    action = check("advance", story, checked_since=checked_since)
    fenced(act, story)
    if story["current_gate"] != gate:
        raise LostRace(
            f"{code} stands before gate {story['current_gate']}, not {gate}", hint="Look again: maf story show"
        )
    act.tx.activity(act.agent, "story.advance", story["id"], gate=gate)
    if ownership is not None:
        _record_ownership(act.tx, story["domain"], ownership)
    moved = move(act.tx, story, action, act.agent, evidence=passed_with(evidence))
    hold_session(act.tx, act.agent, moved, "start")
    return moved


def _record_ownership(tx: Tx, domain: str, rules: dict[str, list[str]]) -> None:
    found = tx.one("ownership.get", domain=domain)
    new = {c: rules.get(c, []) for c in ("owns", "reads", "forbidden")}
    if found is None or any(found[c] != new[c] for c in new):
        values: dict[str, Any] = {c: names.json_text(v, "the ownership") for c, v in new.items()}
        tx.write("ownership.change" if found else "ownership.put", domain=domain, now=tx.now, **values)


@use_case("story.submit", lc.STORY_ACTIONS["submit"].by)
def submit(act: Act, code: str, *, commit: str, evidence: dict[str, Any], checked_since: str | None = None) -> Row:
    """Pass gate 3 and hand the story to QA at ``commit``, which gates 4 to 7 are then about."""
    story = find_story(act.tx, code)
    action = check("submit", story, checked_since=checked_since)
    fenced(act, story)
    act.tx.activity(act.agent, "story.submit", story["id"], commit=commit)
    moved = move(
        act.tx, story, action, act.agent, evidence=passed_with(evidence), submitted_commit=commit,
        first_submitted_at=story["first_submitted_at"] or act.now,
    )  # fmt: skip
    free_session(act.tx, act.agent, story["id"])
    emit(
        act.tx, lc.SignalType.READY_FOR_QA, act.agent, f"role:{lc.Role.QA}",
        {"story_id": story["id"], "branch_name": story["branch_name"]}, story_id=story["id"], wave_id=story["wave_id"],
    )  # fmt: skip
    return moved


@use_case("story.release", (lc.Role.PM, lc.TOOL))
def release(act: Act, code: str, *, reason: str) -> Row:
    """Take an assigned or started story back to ready; its branch, commits and findings stay."""
    names.text(reason, "the reason", limit=4000, required=True)
    return release_held(act.tx, code, reason, lc.EndReason.RELEASED, by=act.agent)


def fail_story(tx: Tx, code: str, why: str, by: str) -> Row:
    """Fail an unended story inside a transaction; the caller judges its wave."""
    story = find_story(tx, code)
    action = check("fail", story)
    tx.activity(by, "story.fail", story["id"], reason=why)
    if assignment := tx.one("assignment.open", story_id=story["id"]):
        close_assignment(tx, assignment, lc.EndReason.FAILED)
        free_session(tx, assignment["agent_id"], story["id"])
        story = find_story(tx, code)
    moved = move(tx, story, action, by, notes=why, assigned_agent=None, assigned_at=None)
    emit(
        tx, lc.SignalType.STORY_FAILED, lc.TOOL, f"role:{lc.Role.PM}", {"story_id": story["id"], "reason": why},
        story_id=story["id"], wave_id=story["wave_id"],
    )  # fmt: skip
    return moved


@use_case("story.fail", lc.STORY_ACTIONS["fail"].by)
def fail(act: Act, code: str, *, reason: str) -> Row:
    """Give a story up for good (until it is reopened), and judge its wave."""
    names.text(reason, "the reason", limit=4000, required=True)
    moved = fail_story(act.tx, code, reason, act.agent)
    waves.judge_after_failure(act.tx)
    return moved


def reopen_story(tx: Tx, story: Row, by: str) -> Row:
    """Bring a failed story back inside a transaction; its branch and commits are kept."""
    action = check("reopen", story)
    tx.activity(by, "story.reopen", story["id"])
    return move(tx, {**story, "status": story["status"]}, _reopening(story, action), by, notes="reopened")


def _reopening(story: Row, action: lc.StoryAction) -> lc.StoryAction:
    from dataclasses import replace

    return replace(action, to=lc.reopened_status(story["current_gate"]))


@use_case("story.reopen", (lc.Role.PM,))
def reopen(act: Act, code: str) -> Row:
    """Bring a failed story back to ready (to backlog if it was never approved), in a wave that has not ended."""
    story = find_story(act.tx, code)
    check("reopen", story)
    if story["wave_status"] not in lc.OPEN_WAVES:
        wave = story["wave_code"]
        hint = f"maf wave retry {wave}" if story["wave_status"] == lc.WaveStatus.FAILED else "Plan a new story."
        where = f"in wave {wave}, which is {story['wave_status']}" if wave else "in no wave"
        raise WrongState(f"{code} is {where}", hint=hint)
    return reopen_story(act.tx, story, act.agent)


def show(ctx: Context, code: str) -> dict[str, Any]:
    """Everything about a story: its row, dependencies, assignments, gates, QA reports, runs."""
    with ctx.store.read() as reader:
        story = find_story(reader, code)
        of = {"story_id": story["id"]}
        return {
            **story,
            "depends_on": reader.all("story.dependencies", **of),
            "assignments": reader.all("assignment.of_story", **of),
            "gates": reader.all("gate.of_story", **of),
            "qa_reports": reader.all("qa.of_story", **of),
            "runs": reader.all("run.of_story", **of),
            "attempts": reader.must("run.attempts", **of)["attempts"],
        }


def held_by(ctx: Context, agent: str) -> str | None:
    """The code of the story that an agent has assigned or in progress."""
    with ctx.store.read() as reader:
        held = reader.one("story.held_by", agent_id=names.agent_id(agent))
    return held["story_code"] if held else None


def listing(ctx: Context, *, wave: str | None = None, status: str | None = None) -> list[Row]:
    """Every story in plan order, those of one wave or status if given."""
    if status is not None and status not in set(lc.StoryStatus):
        raise InvalidInput(f"{status!r} is no story status", hint=f"One of {', '.join(lc.StoryStatus)}.")
    with ctx.store.read() as reader:
        if wave is not None:
            waves.find_wave(reader, wave)
        rows = reader.all("story.list")
        edges: dict[str, list[str]] = {}
        for edge in reader.all("story.edges"):
            edges.setdefault(edge["code"], []).append(edge["after"])
    return [
        {**row, "depends_on": sorted(edges.get(row["story_code"], []))}
        for row in rows
        if wave in (None, row["wave_code"]) and status in (None, row["status"])
    ]
