"""What a killed ``maf run`` left: found by its records, ended, and given back. Also: one runner at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
from contextlib import suppress

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import MafError, Refused
from orchestrator.gates import dev
from orchestrator.gates.project import Project
from orchestrator.process import end_tree, helper
from orchestrator.service import runs, sessions, stories
from orchestrator.store import Row


def machine(project: Project) -> str:
    """The name of this checkout on this machine, as sessions and runs of its runner record it.

    Two checkouts may share a store: neither may take the other's work for leftovers of its own.
    """
    root = hashlib.sha256(os.fsencode(project.repo.root.resolve())).hexdigest()
    return f"{socket.gethostname()[:80]}/{root[:12]}"


def refuse_second(project: Project) -> None:
    """Refused: the runner of another checkout works on this store; the two would only undo each other's work."""
    vm = machine(project)
    others = [
        session
        for session in sessions.listing(project.ctx)
        if session["live"] and session["launched_by"] == "runner" and session["vm_identifier"] != vm
    ]
    if others:
        ids = ", ".join(session["agent_id"] for session in others[:6]) + (", …" if len(others) > 6 else "")
        host = str(others[0]["vm_identifier"]).rpartition("/")[0] or others[0]["vm_identifier"]
        seconds = max(session["ttl_seconds"] for session in others)
        raise Refused(
            f"another maf run works on this store, from another checkout on {host}: {ids}",
            hint=f"One `maf run` a store: end that one first. Should it be dead, its leases end within {seconds} s.",
        )


def lock(project: Project) -> int:
    """Be the only runner of this checkout; keep the returned descriptor open. Refused: another one runs."""
    project.home.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(project.home / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").partition("\n")[0]
        os.close(descriptor)
        raise Refused(
            f"maf run works on this repository already{f' (process {pid})' if pid else ''}",
            hint="Watch it with `maf status`, or end it first.",
        ) from None
    _end_helpers(os.pread(descriptor, 200, 0).decode("ascii", "replace"))
    supervisor, started = helper()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n{supervisor} {started}\n".encode(), 0)
    return descriptor


def _end_helpers(left: str) -> None:
    """Be sure that nothing of a killed maf runs any more: also its checks, which no record names, end with these."""
    _, _, second = left.partition("\n")
    pid, _, started = second.strip().partition(" ")
    if pid.isdigit() and started:
        end_tree(int(pid), started, 2.0)


def recover(project: Project) -> list[str]:
    """End what an earlier maf of this checkout left: its processes, its sessions, the checkout behind the target.

    Returns a line for each thing found. Stories that its agents held are ready again with their work pinned; the
    attempt that was cut off does not count.
    """
    maf, vm = project.acting(lc.TOOL), machine(project)
    said: list[str] = []
    for run in runs.open_runs(maf.ctx):
        if run["vm_identifier"] != vm:
            continue
        if run["pid"] is not None and run["process_started"]:
            end_tree(run["pid"], run["process_started"], 2.0)
        runs.end(maf.ctx, run["id"], outcome=lc.RunOutcome.INTERRUPTED)
        said.append(
            f"{run['agent_id']}'s run on {run['story_code'] or run['agent_type']} was cut off; it does not count"
        )
    for session in sessions.listing(maf.ctx):
        if session["launched_by"] == "runner" and session["vm_identifier"] == vm:
            end(maf, session, "maf run was cut off")
    _clear_merged(project)
    checkout = project.repo.reconcile_checkout(project.settings.target)
    if checkout.kind == "left" and checkout.reason:
        said.append(f"{checkout.path} is left as it is: {checkout.reason}. {checkout.hint or ''}".strip())
    return said


def _clear_merged(project: Project) -> None:
    """Remove the worktrees of merged stories that a killed maf did not come to; those that hold anything stay."""
    for path in sorted((project.home / "worktrees").glob("*")):
        with suppress(MafError):
            if stories.show(project.ctx, path.name)["status"] == lc.StoryStatus.COMPLETED:
                project.repo.remove_worktree(path, target=project.settings.target)


def end(maf: Project, session: Row, why: str) -> None:
    """End a session of the runner's own, with the work of the story that it holds pinned first."""
    if session.get("story_code"):
        with suppress(MafError):
            dev.keep_work(maf, session["story_code"])
    with suppress(MafError):
        sessions.end(maf.ctx, session["agent_id"], reason=why)
