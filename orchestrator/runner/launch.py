"""Launching one agent for one story: prompt, environment, process, and what came of it."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.ids import new_id
from orchestrator.domain.settings import MEGABYTE
from orchestrator.gates.checks import excerpt
from orchestrator.gates.project import Project
from orchestrator.process import Child, Finished, Limits, child_environment, spawn
from orchestrator.service import runs
from orchestrator.store import Row

_OUTCOMES = {
    "timeout": lc.RunOutcome.TIMEOUT,
    "output_limit": lc.RunOutcome.OUTPUT_LIMIT,
    "not_started": lc.RunOutcome.NOT_STARTED,
    "lost": lc.RunOutcome.LOST,
    "stopped": lc.RunOutcome.STOPPED,
}


@dataclass
class Children:
    """The agents that run now, by agent id, so that they can be ended from elsewhere."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_agent: dict[str, Child] = field(default_factory=dict)
    closing: bool = False

    def stop(self, agent: str, reason: str) -> None:
        """End the agent's process, if one runs."""
        with self.lock:
            child = self.by_agent.get(agent)
        if child is not None:
            child.stop(reason)

    def stop_all(self, reason: str) -> None:
        """End them all; none is launched afterwards."""
        with self.lock:
            self.closing = True
            children = list(self.by_agent.values())
        for child in children:
            child.stop(reason)


@dataclass(frozen=True, slots=True)
class Launch:
    """What to launch: an agent's command for a story (or, for a role, without one)."""

    session: Row
    command: tuple[str, ...]
    prompt: str
    how: str
    cwd: Path
    story: str | None = None
    token: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[str, ...] = ()


def environment(project: Project, launch: Launch) -> dict[str, str]:
    """What an agent gets: the allowed variables, who it is, and a git identity where none may be configured."""
    agent = launch.session["agent_id"]
    mine = {
        "MAF_AGENT": agent,
        "MAF_SESSION": str(launch.session["epoch"]),
        "MAF_DB": project.ctx.store.engine.url,
        **({"MAF_STORY": launch.story} if launch.story else {}),
        **({"MAF_TOKEN": str(launch.token)} if launch.token is not None else {}),
        "GIT_AUTHOR_NAME": agent, "GIT_AUTHOR_EMAIL": f"{agent}@maf.invalid",
        "GIT_COMMITTER_NAME": agent, "GIT_COMMITTER_EMAIL": f"{agent}@maf.invalid",
        # In a worktree that has lost its .git, git would find the user's own checkout above it, and commit there.
        "GIT_CEILING_DIRECTORIES": str(launch.cwd.parent),
    }  # fmt: skip
    env = child_environment({**mine, **launch.environment}, launch.allow)
    if home := _own_directory():
        env["PATH"] = f"{home}{os.pathsep}{env.get('PATH', os.defpath)}"
    return env


def _own_directory() -> str | None:
    """Where this very ``maf`` stands, so that agents find it, and find this one."""
    if getattr(sys, "frozen", False):
        return str(Path(sys.executable).parent)
    beside = Path(sys.executable).parent / "maf"
    if beside.exists():
        return str(beside.parent)
    found = shutil.which("maf")
    return str(Path(found).parent) if found else None


def argv_of(launch: Launch, prompt_file: Path) -> tuple[list[str], str | None]:
    """The argv with its places filled in, and what goes to stdin."""
    filled = {
        "{prompt}": launch.prompt, "{prompt_file}": str(prompt_file), "{story}": launch.story or "",
        "{worktree}": str(launch.cwd), "{agent}": launch.session["agent_id"], "{python}": sys.executable,
    }  # fmt: skip
    argv = [_fill(word, filled) for word in launch.command]
    if launch.how == "argument" and not any("{prompt}" in word for word in launch.command):
        argv.append(launch.prompt)
    if launch.how == "file" and not any("{prompt_file}" in word for word in launch.command):
        argv.append(str(prompt_file))
    return argv, launch.prompt if launch.how == "stdin" else None


def _fill(word: str, filled: Mapping[str, str]) -> str:
    for place, value in filled.items():
        if place in word:
            before, _, rest = word.partition(place)
            return before + value + _fill(rest, filled)
    return word


def run_agent(project: Project, launch: Launch, children: Children, vm: str) -> tuple[Row, Finished]:
    """Launch, record, wait. The run's row and how the process ended; the run's end is recorded by :func:`end_run`."""
    maf = project.acting(lc.TOOL).ctx
    agent = launch.session["agent_id"]
    log = project.log("runs", f"{launch.story or launch.session['agent_type']}-{agent}-{new_id()[-8:]}.log")
    run = runs.begin(
        maf, agent, epoch=launch.session["epoch"], role=launch.session["agent_type"], story=launch.story,
        token=launch.token, vm=vm, log_path=str(log.relative_to(project.repo.root)),
    )  # fmt: skip
    try:
        return run, _run(project, launch, children, run, log)
    except InvalidInput as error:  # what can never be launched has a record too, and that record an end
        return run, _never("not_started", error.message)


def _run(project: Project, launch: Launch, children: Children, run: Row, log: Path) -> Finished:
    agent, settings = launch.session["agent_id"], project.settings.run
    prompt_file = log.with_suffix(".prompt.md")
    prompt_file.write_text(launch.prompt, "utf-8")
    argv, stdin = argv_of(launch, prompt_file)
    with children.lock:
        if children.closing:
            return _never("stopped", "maf run is ending")
        child = spawn(
            argv, cwd=launch.cwd, env=environment(project, launch), stdin=stdin, log_path=log,
            limits=Limits(settings.timeout, settings.output_limit or 100 * MEGABYTE, grace=5.0),
        )  # fmt: skip
        children.by_agent[agent] = child
    try:
        finished = child.poll()
        if finished is None:
            runs.launched(
                project.acting(lc.TOOL).ctx, run["id"], pid=child.pid or 0, process_started=str(child.start_time)
            )
            finished = child.wait()
        assert finished is not None
        return finished
    except BaseException:
        child.stop("its record could not be kept")
        child.wait()
        raise
    finally:
        with children.lock:
            children.by_agent.pop(agent, None)


def _never(reason: str, error: str) -> Finished:
    return Finished(None, None, reason, 0.0, "", None, error)


def end_run(project: Project, run: Row, finished: Finished, *, moved: bool) -> tuple[lc.RunOutcome, str]:
    """Record a run's end. ``moved``: its story has been handed on, which is what it was launched for.

    Returns the outcome and one line (and the output's tail) that says why.
    """
    if moved:
        outcome = lc.RunOutcome.DONE
    elif finished.reason == "exited":
        outcome = lc.RunOutcome.NO_SUBMIT if finished.exit_code == 0 else lc.RunOutcome.FAILED
    else:
        outcome = _OUTCOMES[finished.reason]
    runs.end(project.acting(lc.TOOL).ctx, run["id"], outcome=outcome, exit_code=_exit_code(finished))
    return outcome, explain(project, outcome, finished)


def _exit_code(finished: Finished) -> int | None:
    """The exit code; of a process that a signal killed, minus its number."""
    return -finished.signal if finished.exit_code is None and finished.signal else finished.exit_code


def explain(project: Project, outcome: lc.RunOutcome, finished: Finished) -> str:
    """Why a run ended as it did, for the next attempt and for people."""
    limits = project.settings.run
    words: dict[lc.RunOutcome, str] = {
        lc.RunOutcome.DONE: "it handed the story on",
        lc.RunOutcome.NO_SUBMIT: "it exited without submitting",
        lc.RunOutcome.TIMEOUT: f"it ran longer than {limits.timeout:.0f} s and was ended",
        lc.RunOutcome.OUTPUT_LIMIT: f"it wrote more than {limits.output_limit} bytes and was ended",
        lc.RunOutcome.NOT_STARTED: f"it could not be started: {finished.error}",
        lc.RunOutcome.LOST: "its process was lost",
        lc.RunOutcome.STOPPED: "it was stopped",
    }
    died = f"it was killed by signal {finished.signal}" if finished.signal else f"it exited with {finished.exit_code}"
    why = words.get(outcome, died)
    tail = excerpt(finished.tail, 8)
    show = outcome not in (lc.RunOutcome.DONE, lc.RunOutcome.NOT_STARTED, lc.RunOutcome.STOPPED)
    return f"{why}; it last said:\n{tail}" if tail and show else why


def details(outcome: lc.RunOutcome, finished: Finished) -> dict[str, Any]:
    """The facts of an end, for an event."""
    return {"outcome": str(outcome), "exit_code": _exit_code(finished), "seconds": round(finished.duration, 1)}
