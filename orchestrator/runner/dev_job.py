"""One dev agent on one story: worktree, prompt, process, and, for a command that does not know maf, the gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GateFailed, LostRace, MafError
from orchestrator.domain.settings import DevAgent
from orchestrator.gates import dev
from orchestrator.gates.project import Project
from orchestrator.process import Finished
from orchestrator.runner.launch import Children, Launch, details, end_run, run_agent
from orchestrator.runner.prompts import kickstart
from orchestrator.service import sessions, stories
from orchestrator.store import Row


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of it. ``handed_on``: the story is with QA; else ``why`` says what is wrong."""

    story: str
    agent: str
    handed_on: bool
    outcome: lc.RunOutcome
    why: str
    details: dict[str, Any]


def attempt(
    project: Project, code: str, kind: DevAgent, session: Row, token: int, children: Children, vm: str
) -> Attempt:
    """Work on an assigned or returned story until the agent's process ends. Raises MafError where git refuses."""
    mine = project.acting(session["agent_id"], epoch=session["epoch"], token=token)
    story = stories.show(mine.ctx, code)
    if story["status"] == lc.StoryStatus.ASSIGNED:
        path = mine.worktree(code)
        conflict = dev.start_story(mine, code)["conflict"]
    else:
        path, made = dev.prepare(mine, code)
        conflict = made["conflict"]
    prompt = kickstart(
        lc.Role.DEV, session["agent_id"], stories.show(mine.ctx, code), mine.settings,
        worktree=path, conflict=conflict, knows_maf=kind.submits,
    )  # fmt: skip
    launch = Launch(
        session, kind.command, prompt, kind.prompt, path, code, token, kind.environment, kind.pass_environment
    )
    run, finished = run_agent(mine, launch, children, vm)
    note = None
    if not kind.submits and finished.ok:
        note = _submit_for(mine, code)
    handed_on = _handed_on(mine, code, token)
    if not handed_on:
        dev.keep_work(mine, code)
    outcome, why = end_run(mine, run, finished, moved=handed_on)
    return Attempt(code, session["agent_id"], handed_on, outcome, note or why, _facts(outcome, finished))


def _facts(outcome: lc.RunOutcome, finished: Finished) -> dict[str, Any]:
    return details(outcome, finished)


def _submit_for(project: Project, code: str) -> str | None:
    """Take gates 1 to 3 in the agent's name; why not, where one of them does not pass."""
    try:
        while True:
            gate = stories.show(project.ctx, code)["current_gate"]
            if gate < 3:
                dev.advance(project, code)
            elif gate == 3:
                dev.submit(project, code)
            else:
                return None
    except LostRace:
        return None
    except (GateFailed, MafError) as refused:
        return f"its work did not pass: {refused.message}"


def _handed_on(project: Project, code: str, token: int) -> bool:
    """Whether the story is past its dev now, by this very assignment."""
    story = stories.show(project.ctx, code)
    return story["fencing_token"] == token and story["status"] not in lc.HELD_STORIES | {
        lc.StoryStatus.READY, lc.StoryStatus.FAILED,
    }  # fmt: skip


def still_holds(project: Project, code: str, agent: str, token: int) -> bool:
    """Whether that assignment still holds the story, so that the runner may give it back."""
    story = stories.show(project.ctx, code)
    return story["status"] in lc.HELD_STORIES and story["assigned_agent"] == agent and story["fencing_token"] == token


def beat(project: Project, session: Row) -> bool:
    """Renew a session that the runner keeps; False where it has ended."""
    try:
        sessions.heartbeat(project.ctx.acting(session["agent_id"], epoch=session["epoch"]))
    except LostRace:
        return False
    return True
