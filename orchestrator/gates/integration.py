"""Gates 6 and 7: the merge is made and checked beside the target, then the target moves by compare-and-swap."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GateFailed, LostRace, MafError
from orchestrator.gates.checks import excerpt, fresh_worktree, run_checks
from orchestrator.gates.dev import branch_of
from orchestrator.gates.project import Project
from orchestrator.gates.repeats import keyed
from orchestrator.git import CheckoutUpdate, Conflict
from orchestrator.service import reviews, sessions, stories
from orchestrator.store import Row

_TRIES = 20
"""How often a target that others move is followed before the merge gives up."""


@contextmanager
def _one_at_a_time(project: Project) -> Iterator[None]:
    """One merge at once on this machine; several machines meet at the compare-and-swap."""
    project.home.mkdir(parents=True, exist_ok=True)
    lock = os.open(project.home / "merge.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _send_back(project: Project, code: str, reason: str, evidence: dict[str, Any]) -> GateFailed:
    """Refuse in the tool's name; the branch of a dev who still holds the story is brought onto the tip at once."""
    maf = project.acting(lc.TOOL)
    story = reviews.refuse(maf.ctx, code, reason=reason, evidence=evidence)
    if story["status"] == lc.StoryStatus.IN_PROGRESS and _by_hand(maf, story["assigned_agent"]):
        # Nobody prepares the next attempt of a dev that works by hand. The runner does, and its agent may be at work
        # in that worktree already.
        with suppress(MafError):
            project.repo.refresh_branch(project.worktree(code), project.repo.tip(project.settings.target), name=code)
    return GateFailed(
        f"{code} goes back to its dev: {reason}", hint=f"See it: maf story show {code}", evidence=evidence
    )


def _by_hand(project: Project, agent: str) -> bool:
    return bool(sessions.show(project.ctx, agent)["launched_by"] == "hand")


def integrate(project: Project, code: str) -> Row:
    """Gate 6: merge with the target's tip and run the checks on the result. GateFailed: it went back to its dev.

    The merge commit is made here, with the acting CTO in its message.
    """
    cto = project.ctx.agent
    maf, repo, target = project.acting(lc.TOOL), project.repo, project.settings.target
    began = maf.ctx.store.now()
    story = reviews.may(maf.ctx, "integrate", code)
    submitted, branch = story["submitted_commit"], story["branch_name"] or branch_of(code)
    if repo.find_tip(branch) != submitted:
        reason = f"{branch} is at {repo.find_tip(branch)}, submitted was {submitted}"
        raise _send_back(project, code, reason, {"decision": {"by": lc.TOOL}})
    tip = repo.tip(target)
    merged = repo.merge_tree(tip, submitted)
    if isinstance(merged, Conflict):
        # A path that is no UTF-8 cannot stand in the store as it is.
        shown = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in merged.files]
        reason = f"conflict with {target} at {tip[:12]} in {', '.join(shown[:20])}"
        proof: dict[str, Any] = {"conflict": shown, "target_tip": tip, "decision": {"by": lc.TOOL}}
        raise _send_back(project, code, reason, proof)
    found: dict[str, Any] = {"tree": merged.tree, "target_tip": tip, "target": target}
    if merged.tree == repo.commit(tip).tree and repo.is_ancestor(submitted, tip):
        # It is there already: a crash after the target moved, or somebody merged it by hand.
        checked_commit, found["merged_before"] = tip, True
    else:
        # The very commit that gate 7 puts on the target; until then nothing refers to it.
        message = merge_message(stories.show(maf.ctx, code), cto, target)
        checked_commit = repo.commit_merge(merged.tree, [tip, submitted], message, began)
        found |= {"merge": checked_commit, "merge_by": cto}
    with fresh_worktree(project, checked_commit) as path:
        checked = run_checks(project, path, submitted, f"{code}-gate6")
    evidence = {**checked.evidence, **found}
    if not checked.ok:
        reason = f"merged with {target} at {tip[:12]}, {checked.summary}\n{excerpt(checked.tail)}".strip()
        raise _send_back(project, code, reason, evidence)
    return reviews.integrate(maf.ctx, code, commit=submitted, evidence=evidence, checked_since=began)


def _merged_before(project: Project, code: str, story: Row) -> Row:
    commit = next(g for g in stories.show(project.ctx, code)["gates"] if g["to_gate"] == lc.MERGED_GATE)["metadata"]
    nothing = {"kind": "none", "path": str(project.repo.root), "reason": None, "hint": None}
    return {**story, "commit": commit["commit"], "target": project.settings.target, "checkout": nothing}


@keyed("merge.merge", _merged_before)
def merge(project: Project, code: str) -> Row:
    """Gates 6 and 7: integrate if that is still to do, then move the target.

    Returns the story with ``commit``, ``target`` and ``checkout`` (what became of the user's own).

    The target only ever moves to the very tree that gate 6 checked, from the very tip that it was checked on; where it
    has moved meanwhile, the story is integrated again. Called again after a crash it finds the merge and records it.
    """
    with _one_at_a_time(project):
        for _ in range(_TRIES):
            story = stories.show(project.ctx, code)
            if story["current_gate"] == 6:
                reviews.require_role(project.ctx, "merge")  # before minutes of checks
                integrate(project, code)
                continue
            reviews.may(project.ctx, "merge", code)
            try:
                return _merge_integrated(project, story)
            except _TargetMoved as moved:
                reviews.reintegrate(project.acting(lc.TOOL).ctx, code, reason=str(moved))
    raise LostRace(f"{project.settings.target} moved {_TRIES} times while {code} was integrated", hint="Merge again.")


class _TargetMoved(Exception):
    """Somebody else moved the target; integrate again."""


def _merge_integrated(project: Project, story: Row) -> Row:
    repo, target, code = project.repo, project.settings.target, story["story_code"]
    submitted = story["submitted_commit"]
    began = project.ctx.store.now()
    integrated = next(g for g in reversed(story["gates"]) if g["to_gate"] == 7)["metadata"]
    old = integrated["target_tip"]
    # What gate 6 found on the target already may lie anywhere on it; else only what came since can be the merge.
    commit = repo.find_merge(target, submitted, since=None if integrated.get("merged_before") else old)
    if commit is None:
        if repo.find_tip(story["branch_name"]) != submitted:
            reason = f"{story['branch_name']} has moved from the submitted {submitted}"
            raise _send_back(project, code, reason, {"decision": {"by": lc.TOOL}})
        if repo.tip(target) != old:
            raise _TargetMoved(f"{target} moved from {old[:12]} to {repo.tip(target)[:12]}")
        commit = integrated.get("merge")
        if commit is None or integrated["merge_by"] != project.ctx.agent or repo.resolve(commit) is None:
            message = merge_message(story, project.ctx.agent, target)
            commit = repo.commit_merge(integrated["tree"], [old, submitted], message, began)
        try:
            repo.update_branch(target, commit, old, f"merge {code}")
        except LostRace as lost:
            raise _TargetMoved(str(lost)) from None
    evidence = {
        "command": f"git update-ref refs/heads/{target} {commit} {old}", "exit_code": 0, "target": target,
        "target_tip": old, "submitted": submitted, "tree": integrated["tree"], "began": began,
    }  # fmt: skip
    merged = reviews.merge(project.ctx, code, merge_commit=commit, evidence=evidence)
    # From here on nothing may fail: it is merged, and that is recorded.
    checkout = _follow(project, old, commit)
    with suppress(MafError):  # such as: something in it is not on the target
        repo.remove_worktree(project.worktree(code), target=target)
    return {
        **merged, "commit": commit, "target": target,
        "checkout": {
            "kind": checkout.kind, "path": str(checkout.path), "reason": checkout.reason, "hint": checkout.hint,
        },
    }  # fmt: skip


def _follow(project: Project, old: str, commit: str) -> CheckoutUpdate:
    """Bring the user's checkout along; killed before that, the next `maf run` does."""
    try:
        return project.repo.update_checkout(project.settings.target, old, commit)
    except MafError as error:
        return CheckoutUpdate("left", project.repo.root, error.message, error.hint)


def merge_message(story: Row, cto: str, target: str) -> str:
    """The merge commit's message: what was merged, each gate and who passed it, as git trailers."""
    passed = {g["from_gate"]: g for g in story["gates"] if g["transition_type"] == lc.Transition.ADVANCE}
    lines = [f"Merge {story['story_code']} into {target}: {story['title']}", ""]
    if story["wave_code"]:
        lines.append(f"Wave: {story['wave_code']}")
    lines.append(f"Story: {story['story_code']}")
    for gate in lc.GATES:
        by = {6: lc.TOOL, 7: cto}.get(gate.number) or passed[gate.number]["agent_id"]
        lines.append(f"Gate-{gate.number}: {gate.name}, {by}")
    lines.append(f"Submitted: {story['submitted_commit']}")
    return "\n".join(lines) + "\n"


def refuse(project: Project, code: str, reason: str) -> Row:
    """The CTO refuses at gate 6 or 7; the story goes back to its dev."""
    return reviews.refuse(project.ctx, code, reason=reason)
