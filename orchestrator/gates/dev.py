"""What a dev does: start (branch and worktree), gates 1 to 3, and giving a story back with its work kept."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import GateFailed, MafError, WrongState
from orchestrator.domain.settings import Domain
from orchestrator.gates.checks import excerpt, run_checks
from orchestrator.gates.project import Project
from orchestrator.gates.repeats import keyed
from orchestrator.git import PathRules, check_paths
from orchestrator.service import reviews, stories
from orchestrator.store import Row


def branch_of(code: str) -> str:
    """The branch of a story."""
    return f"feature/{code}"


def prepare(project: Project, code: str) -> tuple[Path, dict[str, Any]]:
    """The story's worktree on its branch, from the target's tip, or the story's own branch brought onto it.

    Returns its path and ``{"branch", "base", "conflict"}``: ``conflict`` lists the files that the dev has to resolve
    (the merge of the target's tip is then started in the worktree).
    """
    repo, path, branch = project.repo, project.worktree(code), branch_of(code)
    tip = repo.tip(project.settings.target)
    fresh = repo.find_tip(branch) is None
    path.parent.mkdir(parents=True, exist_ok=True)
    repo.add_worktree(path, branch, start_point=tip)
    conflict: tuple[str, ...] = ()
    base = tip
    if not fresh:
        refreshed = repo.refresh_branch(path, tip, name=code)
        if refreshed.kind == "conflict":
            # The branch is continued: until its dev has resolved the merge, it stands where it left the target.
            conflict, base = refreshed.files, repo.merge_base(refreshed.head, tip)
    return path, {"branch": branch, "base": base, "conflict": list(conflict)}


def _started(project: Project, code: str, story: Row) -> Row:
    made = {"branch": story["branch_name"], "base": story["base_commit"], "conflict": []}
    return {**story, "worktree": str(project.worktree(code)), **made}


@keyed("story.start", _started)
def start_story(project: Project, code: str) -> Row:
    """Make branch and worktree ready and begin the story. The story with ``worktree``, ``branch`` and ``conflict``."""
    reviews.may(project.ctx, "start", code)
    path, made = prepare(project, code)
    story = stories.start(project.ctx, code, branch=made["branch"], base=made["base"])
    return {**story, "worktree": str(path), **made}


@keyed("story.advance")
def advance(project: Project, code: str) -> Row:
    """Pass gate 1 or 2, whichever the story stands before. GateFailed says what is missing."""
    ctx, repo = project.ctx, project.repo
    began = ctx.store.now()
    story = reviews.may(ctx, "advance", code)
    gate = story["current_gate"]
    branch, path = story["branch_name"], project.worktree(code)
    tip = repo.tip(branch)
    if gate == 1:
        evidence = _plan_evidence(project, code, path, branch, tip, story["base_commit"])
        return stories.advance(ctx, code, gate=1, evidence=evidence, checked_since=began)
    evidence, rules = _work_evidence(project, story, tip)
    return stories.advance(ctx, code, gate=2, evidence=evidence, ownership=rules, checked_since=began)


def _plan_evidence(project: Project, code: str, path: Path, branch: str, tip: str, base: str | None) -> dict[str, Any]:
    repo, target = project.repo, project.settings.target
    if base is None or not repo.is_ancestor(base, tip):
        raise GateFailed(
            f"{branch} does not hold the commit of {target} that it was started from ({base})",
            hint=f"Merge {target} into it in {path}.",
        )
    wanted = [name.replace("{story}", code) for name in project.settings.plan_files]
    missing = [name for name in wanted if not (path / name).is_file()]
    if missing:
        raise GateFailed(
            f"gate 1 asks for {', '.join(missing)}, which is not in the worktree",
            hint=f"Write it in {path}, then advance again.",
        )
    return {
        "command": f"git merge-base --is-ancestor {base} {branch}", "exit_code": 0, "commit": tip, "base": base,
        "plan_files": wanted,
    }  # fmt: skip


def _work_evidence(project: Project, story: Row, tip: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Evidence that the branch has work of its own and only where its domain may. GateFailed otherwise."""
    repo, target, code = project.repo, project.settings.target, story["story_code"]
    path = project.worktree(code)
    git_dir = repo.git_dir(path)
    if git_dir is not None and (git_dir / "MERGE_HEAD").exists():
        raise GateFailed(
            f"the merge of {target} into {story['branch_name']} is not finished",
            hint=f"Resolve what git status names in {path}, git add it, git commit, then advance again.",
        )
    commits = repo.own_commits(story["branch_name"], target)
    if not commits:
        raise GateFailed(
            f"{story['branch_name']} has no commit of its own yet",
            hint=f"Commit the work in {path}, then advance again.",
        )
    changes = repo.changed_files(target, tip, from_merge_base=True)
    domain = project.settings.domains.get(story["domain"], Domain())
    violations = check_paths(changes, PathRules(domain.owns, domain.reads, domain.forbidden))
    if violations:
        shown = "; ".join(v.message for v in violations[:5])
        more = f" (and {len(violations) - 5} more)" if len(violations) > 5 else ""
        raise GateFailed(
            f"{code} changes what the domain {story['domain']!r} may not: {shown}{more}",
            hint="Take these files back to the target's version and commit, or split the story.",
            violations=[{"path": v.path, "rule": v.rule, "message": v.message} for v in violations],
        )
    rules = _rules(domain)
    return {
        "command": f"git rev-list --count {target}..{story['branch_name']}", "exit_code": 0, "commit": tip,
        "commits": len(commits), "files": len(changes), "rules": rules,
    }, rules  # fmt: skip


def _seen_by_gate_2(project: Project, story: Row, tip: str) -> bool:
    """Whether gate 2 was last passed with this very commit, by the rules that hold now."""
    gates = [g for g in stories.show(project.ctx, story["story_code"])["gates"] if g["from_gate"] == 2]
    domain = project.settings.domains.get(story["domain"], Domain())
    return bool(gates) and (gates[-1]["metadata"].get("commit"), gates[-1]["metadata"].get("rules")) == (
        tip, _rules(domain),
    )  # fmt: skip


def _rules(domain: Domain) -> dict[str, list[str]]:
    return {"owns": list(domain.owns), "reads": list(domain.reads), "forbidden": list(domain.forbidden)}


@keyed("story.submit")
def submit(project: Project, code: str) -> Row:
    """Pass gate 3 with the project's checks in the story's worktree, and hand its commit to QA."""
    ctx, repo = project.ctx, project.repo
    began = ctx.store.now()
    story = reviews.may(ctx, "submit", code)
    path, branch = project.worktree(code), story["branch_name"]
    tip = repo.head(path)
    if repo.tip(branch) != tip:
        raise GateFailed(
            f"{path} stands at {tip[:12]}, its branch {branch} at {repo.tip(branch)[:12]}",
            hint=f"Bring the work onto {branch}: git -C {path} checkout {branch}",
        )
    if not repo.is_clean(path):
        raise GateFailed(
            f"{path} has changes that are not committed", hint="Commit them (or remove them), then submit again."
        )
    if not _seen_by_gate_2(project, story, tip):
        _work_evidence(project, story, tip)  # commits that came after gate 2 are held to it as well
    checked = run_checks(project, path, tip, f"{code}-gate3")
    if not checked.ok:
        raise GateFailed(
            f"gate 3: {checked.summary}\n{excerpt(checked.tail)}".strip(),
            hint=f"Mend it in {path}, commit, then submit again.", evidence=checked.evidence,
        )  # fmt: skip
    if repo.tip(branch) != tip:
        raise WrongState(f"{branch} has moved while its checks ran", hint="Submit again.")
    repo.archive(code, tip)
    return stories.submit(ctx, code, commit=tip, evidence=checked.evidence, checked_since=began)


def keep_work(project: Project, code: str) -> None:
    """Pin all work in a story's worktree under ``refs/maf/``, also what is not committed; nothing is touched."""
    path = project.worktree(code)
    if path.exists():
        project.repo.salvage(path, code)


def keep_all_work(project: Project) -> list[str]:
    """Pin the work of every story's worktree here; the codes. For what ends sessions or stories many at a time."""
    home = project.worktree("x").parent
    codes = sorted(path.name for path in home.iterdir() if path.is_dir()) if home.is_dir() else []
    for code in codes:
        with suppress(MafError):  # one that cannot be read keeps nobody from the others
            keep_work(project, code)
    return codes


def release(project: Project, code: str, reason: str) -> Row:
    """Release a story with its work pinned first."""
    keep_work(project, code)
    return stories.release(project.ctx, code, reason=reason)


def fail(project: Project, code: str, reason: str) -> Row:
    """Fail a story with its work pinned first."""
    keep_work(project, code)
    return stories.fail(project.ctx, code, reason=reason)
