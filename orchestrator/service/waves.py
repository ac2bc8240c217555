"""Waves: started, paused, resumed, failed, retried; completed in the very transaction of their last story."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GuardFailed, InvalidInput, NotFound, Refused, WrongState
from orchestrator.domain.moments import between
from orchestrator.service.context import Act, Context, use_case
from orchestrator.service.deliveries import emit
from orchestrator.service.graph import refuse_cycle
from orchestrator.store import Reader, Row, Tx


def find_wave(reader: Reader, code: str) -> Row:
    """The wave of that code. NotFound: there is none."""
    wave = reader.one("wave.get", code=names.code(code, "the wave code"))
    if wave is None:
        raise NotFound(f"there is no wave {code!r}", hint="See `maf wave list`.")
    return wave


def refuse_ended(wave: Row) -> None:
    """A completed or failed wave takes no new story."""
    if wave["status"] not in lc.OPEN_WAVES:
        raise WrongState(f"wave {wave['wave_code']} is {wave['status']}", hint="Add the story to another wave.")


def _check(name: str, wave: Row) -> lc.WaveAction:
    action = lc.WAVE_ACTIONS[name]
    if wave["status"] not in action.frm:
        raise WrongState(
            f"wave {wave['wave_code']} is {wave['status']}; {name} needs {' or '.join(action.frm)}",
            hint=f"See it: maf wave status {wave['wave_code']}",
        )
    return action


def _move(tx: Tx, wave: Row, action: lc.WaveAction, by: str, **payload: Any) -> Row:
    """Swap the wave's status and tell everybody; the caller has opened the activity."""
    ended = action.to in (lc.WaveStatus.COMPLETED, lc.WaveStatus.FAILED)
    saved = tx.swap(
        "wave.save", before=wave, id=wave["id"], expected_status=wave["status"], status=action.to, now=tx.now,
        started_at=wave["started_at"] or (tx.now if action.to is lc.WaveStatus.ACTIVE else None),
        completed_at=tx.now if ended and action.to is lc.WaveStatus.COMPLETED else None,
    )  # fmt: skip
    if action.signal is not None:
        emit(tx, action.signal, by, None, {"wave_id": wave["id"], **payload}, wave_id=wave["id"])
    return {**wave, **saved}


def insert_wave(
    tx: Tx, code: str, *, name: str, description: str | None, priority: int, manual: bool, after: Sequence[str]
) -> Row:
    """Write a new wave and what it waits for; the caller has opened the activity and checks the graph."""
    names.code(code, "the wave code")
    if tx.one("wave.get", code=code) is not None:
        raise Refused(f"there is already a wave {code!r}", hint="Choose another code.")
    if not 1 <= priority <= 2**31 - 1:
        raise InvalidInput("a priority is 1 or more", hint="1 is the most urgent.")
    wave = tx.write(
        "wave.insert", id=ids.new_id(), wave_code=code, name=names.text(name, "the name", limit=255, single_line=True),
        description=None if description is None else names.text(description, "the description"),
        status=lc.WaveStatus.PLANNING, priority=priority, start_mode="manual" if manual else "auto", now=tx.now,
    )[0]  # fmt: skip
    for other in after:
        if other == code:
            raise InvalidInput(f"{code} cannot wait for itself", hint="Remove it from --after.")
        tx.write("wave.depend", wave_id=wave["id"], depends_on_wave_id=find_wave(tx, other)["id"], now=tx.now)
    return wave


@use_case("wave.add", (lc.USER, lc.Role.PM, lc.Role.CTO))
def add(
    act: Act, code: str, *, name: str, description: str | None = None, priority: int = 1, manual: bool = False,
    after: Sequence[str] = (),
) -> Row:  # fmt: skip
    """Add a wave; it waits for those in ``after``."""
    act.tx.activity(act.agent, "wave.add", wave=code)
    wave = insert_wave(act.tx, code, name=name, description=description, priority=priority, manual=manual, after=after)
    if after:
        refuse_cycle(act.tx)
    return wave


def start_wave(tx: Tx, wave: Row, by: str) -> Row:
    """Start a planned wave inside a transaction, and judge it (one without stories is completed at once)."""
    _start(tx, wave, by)
    judge(tx, wave["id"])
    return tx.must("wave.by_id", id=wave["id"])


def _start(tx: Tx, wave: Row, by: str) -> None:
    action = _check("start", wave)
    waiting = tx.all("wave.open_dependencies", wave_id=wave["id"])
    if waiting:
        names_ = ", ".join(f"{w['wave_code']} ({w['status']})" for w in waiting)
        raise GuardFailed(f"wave {wave['wave_code']} waits for {names_}", hint="It starts when they are completed.")
    tx.activity(by, "wave.start", wave=wave["wave_code"])
    _move(tx, wave, action, by)


@use_case("wave.start", lc.WAVE_ACTIONS["start"].by)
def start(act: Act, code: str) -> Row:
    """Start a wave whose waits are over."""
    return start_wave(act.tx, find_wave(act.tx, code), act.agent)


@use_case("wave.pause", lc.WAVE_ACTIONS["pause"].by)
def pause(act: Act, code: str) -> Row:
    """Pause an active wave: nothing in it advances until it is resumed."""
    wave = find_wave(act.tx, code)
    action = _check("pause", wave)
    act.tx.activity(act.agent, "wave.pause", wave=code)
    return _move(act.tx, wave, action, act.agent)


@use_case("wave.resume", lc.WAVE_ACTIONS["resume"].by)
def resume(act: Act, code: str) -> Row:
    """Let a paused wave go on."""
    wave = find_wave(act.tx, code)
    action = _check("resume", wave)
    act.tx.activity(act.agent, "wave.resume", wave=code)
    _move(act.tx, wave, action, act.agent)
    judge(act.tx, wave["id"])
    return find_wave(act.tx, code)


@use_case("wave.fail", (lc.Role.PM,))
def fail(act: Act, code: str, *, reason: str) -> Row:
    """Give a wave up: its unended stories are failed with it."""
    from orchestrator.service.stories import fail_story

    names.text(reason, "the reason", limit=4000, required=True)
    wave = find_wave(act.tx, code)
    action = _check("fail", wave)
    unended = [s for s in act.tx.all("wave.story_states", wave_id=wave["id"]) if s["status"] in lc.UNENDED_STORIES]
    if not unended:
        raise GuardFailed(f"wave {code} has no unended story to fail", hint="See it: maf wave status " + code)
    for story in unended:
        fail_story(act.tx, story["story_code"], f"wave {code} was failed: {reason}", act.agent)
    act.tx.activity(act.agent, "wave.fail", wave=code, reason=reason)
    failed = _move(act.tx, wave, action, act.agent)
    judge_after_failure(act.tx)
    return failed


@use_case("wave.retry", lc.WAVE_ACTIONS["retry"].by)
def retry(act: Act, code: str, *, without: Sequence[str] = ()) -> Row:
    """Take a failed wave up again: its failed stories are reopened, those ``without`` are moved out first."""
    from orchestrator.service.stories import reopen_story
    from orchestrator.service.transitions import find_story, keep

    wave = find_wave(act.tx, code)
    action = _check("retry", wave)
    for other in without:
        story = find_story(act.tx, other)
        if story["wave_id"] != wave["id"]:
            raise InvalidInput(f"{other} is not in wave {code}", hint=f"See `maf story list --wave {code}`.")
        if story["status"] == lc.StoryStatus.COMPLETED:
            raise GuardFailed(f"{other} is merged; it stays in the wave", hint="Leave it out of --without.")
        act.tx.activity(act.agent, "story.move_out", story["id"], wave=code)
        keep(act.tx, story, wave_id=None)
    act.tx.activity(act.agent, "wave.retry", wave=code)
    _move(act.tx, wave, action, act.agent)
    for state in act.tx.all("wave.story_states", wave_id=wave["id"]):
        if state["status"] == lc.StoryStatus.FAILED:
            reopen_story(act.tx, find_story(act.tx, state["story_code"]), act.agent)
    judge(act.tx, wave["id"])
    return find_wave(act.tx, code)


def judge(tx: Tx, wave_id: str | None) -> None:
    """Complete or fail an active wave whose stories have come to their end; start the waves that waited for it.

    Those are judged too: a chain of empty waves, however long, is completed at once.
    """
    to_judge = [wave_id]
    for one in to_judge:
        to_judge.extend(_judge(tx, one))


def _judge(tx: Tx, wave_id: str | None) -> list[str]:
    """Judge one wave; the ids of those that started because it is completed."""
    wave = tx.one("wave.by_id", id=wave_id) if wave_id else None
    if wave is None or wave["status"] != lc.WaveStatus.ACTIVE:
        return []
    freed: list[Row] = []
    states = {s["id"]: s["status"] for s in tx.all("wave.story_states", wave_id=wave_id)}
    if all(status == lc.StoryStatus.COMPLETED for status in states.values()):
        tx.activity(lc.TOOL, "wave.complete", wave=wave["wave_code"])
        stats = {
            "stories": len(states),
            "seconds": round(between(wave["started_at"], tx.now), 3) if wave["started_at"] else 0,
        }
        _move(tx, wave, lc.WAVE_ACTIONS["complete"], lc.TOOL, stats=stats)
        freed = tx.all("wave.freed_by", wave_id=wave_id)
        for waited in freed:
            _start(tx, waited, lc.TOOL)
    elif _stuck(tx, states, wave_id):
        tx.activity(lc.TOOL, "wave.fail", wave=wave["wave_code"])
        _move(tx, wave, lc.WAVE_ACTIONS["fail"], lc.TOOL)
    return [waited["id"] for waited in freed]


def _stuck(tx: Tx, states: dict[str, str], wave_id: str | None) -> bool:
    """Whether one story has failed and every other has ended or waits, in the end, behind a failed one."""
    if lc.StoryStatus.FAILED not in states.values():
        return False
    behind = {row["id"] for row in tx.all("wave.behind_failed", wave_id=wave_id)}
    return all(status not in lc.UNENDED_STORIES or story in behind for story, status in states.items())


def judge_after_failure(tx: Tx) -> None:
    """Judge every active wave: a story of one may have waited for the one that failed in another."""
    for wave in tx.all("wave.active"):
        judge(tx, wave["id"])


def status(ctx: Context, code: str) -> dict[str, Any]:
    """A wave with its stories, what it waits for, and its counts by status."""
    with ctx.store.read() as reader:
        wave = find_wave(reader, code)
        stories = reader.all("story.of_wave", wave_id=wave["id"])
        edges = reader.all("wave.edges")
    counts: dict[str, int] = {}
    for story in stories:
        counts[story["status"]] = counts.get(story["status"], 0) + 1
    return {
        **wave, "after": sorted(e["after"] for e in edges if e["code"] == code), "counts": counts, "stories": stories,
    }  # fmt: skip


def listing(ctx: Context) -> list[Row]:
    """Every wave with its counts and what it waits for."""
    with ctx.store.read() as reader:
        rows, edges = reader.all("wave.list"), reader.all("wave.edges")
    return [{**row, "after": sorted(e["after"] for e in edges if e["code"] == row["wave_code"])} for row in rows]
