"""The record of what the runner launched: attempts are counted here, and leftovers of a killed maf are found here."""

from __future__ import annotations

from typing import Any

from orchestrator.domain import ids
from orchestrator.domain import lifecycle as lc
from orchestrator.service.context import Act, Context, use_case
from orchestrator.service.transitions import find_story
from orchestrator.store import Row


@use_case("run.begin", (lc.TOOL,))
def begin(
    act: Act, agent: str, *, epoch: int, role: str, story: str | None, token: int | None, vm: str | None, log_path: str
) -> Row:
    """Record that a process is about to be launched; ``attempt`` counts the story's from 1."""
    tx = act.tx
    found = find_story(tx, story) if story else None
    attempts = tx.must("run.attempts", story_id=found["id"])["attempts"] if found else 0
    tx.activity(lc.TOOL, "run.begin", found["id"] if found else None, agent=agent)
    return tx.write(
        "run.insert", id=ids.new_id(), agent_id=agent, epoch=epoch, agent_type=role,
        story_id=found["id"] if found else None, fencing_token=token, attempt=attempts + 1, vm_identifier=vm,
        log_path=log_path, now=tx.now,
    )[0]  # fmt: skip


@use_case("run.launched", (lc.TOOL,))
def launched(act: Act, run: str, *, pid: int, process_started: str) -> None:
    """Record which process it is, so that a later maf can tell it from a foreign one."""
    act.tx.activity(lc.TOOL, "run.launched")
    act.tx.write("run.launched", id=run, pid=pid, process_started=process_started)


@use_case("run.end", (lc.TOOL,))
def end(act: Act, /, run: str, *, outcome: lc.RunOutcome, exit_code: int | None = None, **details: Any) -> bool:
    """Record how it ended; False if that was recorded already."""
    counted = int(outcome not in lc.UNCOUNTED_OUTCOMES)
    act.tx.activity(lc.TOOL, "run.end", outcome=outcome, **details)
    return bool(act.tx.write("run.end", id=run, outcome=outcome, exit_code=exit_code, counted=counted, now=act.now))


def open_runs(ctx: Context) -> list[Row]:
    """Runs that have no end recorded."""
    with ctx.store.read() as reader:
        return reader.all("run.open")


def attempts(ctx: Context, code: str) -> int:
    """How many counted attempts a story has had since it was last reopened."""
    with ctx.store.read() as reader:
        return int(reader.must("run.attempts", story_id=find_story(reader, code)["id"])["attempts"])


def board(ctx: Context) -> dict[str, list[Row]]:
    """What the runner decides on: unended stories of open waves, dependencies, open waves, stops in force, sessions."""
    with ctx.store.read() as reader:
        return {
            "stories": reader.all("runner.stories"),
            "edges": reader.all("runner.edges"),
            "waves": reader.all("runner.open_waves"),
            "startable": reader.all("wave.startable"),
            "stops": reader.all("stop.in_force"),
            "sessions": reader.all("runner.sessions"),
        }


def attempts_left(ctx: Context, code: str, allowed: int) -> int:
    """How many more launches a story may have. One that another story's merge undid is given again."""
    with ctx.store.read() as reader:
        story = find_story(reader, code)
        used = int(reader.must("run.attempts", story_id=story["id"])["attempts"])
        conflicts = int(reader.must("runner.conflicts", story_id=story["id"])["conflicts"])
    return allowed + conflicts - used


def last_words(ctx: Context, code: str) -> str:
    """Why a story last came back: the note of its latest reject or reset."""
    with ctx.store.read() as reader:
        found = reader.one("gate.last_reject", story_id=find_story(reader, code)["id"])
    return str(found["notes"]) if found and found["notes"] else "it ended without a word"
