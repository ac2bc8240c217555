"""One dev agent on one story: worktree, prompt, process, and, for a command that does not know maf, the gates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GateFailed, LostRace, MafError
from orchestrator.domain.settings import DevAgent
from orchestrator.gates import dev
from orchestrator.gates.project import Project
from orchestrator.runner.launch import Children, Launch, details, end_run, run_agent
from orchestrator.runner.prompts import kickstart
from orchestrator.service import stories
from orchestrator.store import Row

_QA_GATE = 4


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
    known = {gate["id"] for gate in story["gates"]}
    run, finished = run_agent(mine, launch, children, vm)
    try:
        note = _submit_for(mine, code) if not kind.submits and finished.ok else None
        handed_on = _handed_on(mine, code, token, known)
        if not handed_on:
            dev.keep_work(mine, code)
    except BaseException:
        # Its record needs an end, whatever has become of the story.
        with suppress(MafError):
            end_run(mine, run, finished, moved=False)
        raise
    outcome, why = end_run(mine, run, finished, moved=handed_on)
    return Attempt(code, session["agent_id"], handed_on, outcome, note or why, details(outcome, finished))


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


def _handed_on(project: Project, code: str, token: int, known: set[str]) -> bool:
    """Whether this very assignment has handed the story to QA in this run, whatever became of it then.

    Not its status: QA may have rejected it before the agent's process was gone.
    """
    story = stories.show(project.ctx, code)
    submitted = any(
        g["to_gate"] == _QA_GATE and g["transition_type"] == lc.Transition.ADVANCE and g["id"] not in known
        for g in story["gates"]
    )
    return submitted and story["fencing_token"] == token


def still_holds(project: Project, code: str, agent: str, token: int) -> bool:
    """Whether that assignment still holds the story, so that the runner may give it back."""
    story = stories.show(project.ctx, code)
    return story["status"] in lc.HELD_STORIES and story["assigned_agent"] == agent and story["fencing_token"] == token
