"""A role that is played by an agent: its command is launched for one decision on one story."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.domain.errors import GateFailed
from orchestrator.gates.checks import fresh_worktree
from orchestrator.gates.project import Project
from orchestrator.runner.launch import Children, Launch, end_run, run_agent
from orchestrator.runner.prompts import kickstart
from orchestrator.service import stories
from orchestrator.store import Row


@dataclass(frozen=True, slots=True)
class RoleTask:
    """What a role's agent is asked: approve, assign, judge, review or merge a story."""

    role: str
    what: str
    story: str
    session: Row
    to: str | None = None


def work_role(project: Project, task: RoleTask, children: Children, vm: str) -> None:
    """Launch the role's command and wait. GateFailed: it exited without having decided."""
    session = task.session
    mine = project.acting(session["agent_id"], epoch=session["epoch"])
    before = stories.show(mine.ctx, task.story)
    settings = mine.settings.roles[task.role]
    prompt = kickstart(task.role, session["agent_id"], before, mine.settings, task=task.what, to=task.to)
    commit = before["submitted_commit"] or mine.repo.tip(mine.settings.target)
    with fresh_worktree(mine, commit) as path:
        launch = Launch(session, settings.command, prompt, settings.prompt, path, task.story)
        run, finished = run_agent(mine, launch, children, vm)
    after = stories.show(mine.ctx, task.story)
    moved = (after["status"], after["current_gate"], after["fencing_token"]) != (
        before["status"], before["current_gate"], before["fencing_token"],
    )  # fmt: skip
    _, why = end_run(mine, run, finished, moved=moved)
    if not moved:
        raise GateFailed(f"the {task.role} agent did not {task.what} {task.story}: {why}", hint="Decide by hand.")
