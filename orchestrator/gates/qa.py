"""Gate 4: the project's checks, afresh, in another worktree, at the very commit that was submitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.domain.errors import GateFailed
from orchestrator.gates.checks import Checked, excerpt, fresh_worktree, run_checks
from orchestrator.gates.project import Project
from orchestrator.gates.repeats import keyed
from orchestrator.service import reviews
from orchestrator.store import Row


def judge(project: Project, code: str) -> Checked:
    """Run the checks for a story under QA; changes nothing. GateFailed: its branch has moved, and it was rejected."""
    story = reviews.may(project.ctx, "pass", code)
    tip = project.repo.find_tip(story["branch_name"])
    if tip != story["submitted_commit"]:
        finding = f"the branch {story['branch_name']} is at {tip}, submitted was {story['submitted_commit']}"
        reviews.qa_reject(replace(project.ctx, key=None), code, findings=[finding])
        raise GateFailed(f"{code}: {finding}; it is rejected", hint="Its dev submits again.")
    with fresh_worktree(project, story["submitted_commit"]) as path:
        return run_checks(project, path, story["submitted_commit"], f"{code}-gate4")


@keyed("qa.pass")
def qa_pass(project: Project, code: str, *, findings: Sequence[str] = (), coverage: int | None = None) -> Row:
    """Run the checks and pass gate 4. GateFailed: they did not pass; the story is unchanged, the evidence is kept."""
    began = project.ctx.store.now()
    checked = judge(project, code)
    if not checked.ok:
        reviews.qa_checks_failed(project.ctx, code, evidence=checked.evidence)
        raise GateFailed(
            f"gate 4: {checked.summary}\n{excerpt(checked.tail)}".strip(),
            hint=f'The story is unchanged. Reject it: maf qa reject {code} --finding "…"', evidence=checked.evidence,
        )  # fmt: skip
    return _record(project, code, checked, began, findings, coverage)


def _record(
    project: Project, code: str, checked: Checked, began: str, findings: Sequence[str] = (), coverage: int | None = None
) -> Row:
    found = coverage if coverage is not None else checked.evidence.get("coverage")
    return reviews.qa_pass(
        project.ctx, code, commit=checked.evidence["commit"], evidence=checked.evidence, findings=findings,
        coverage=found, checked_since=began,
    )  # fmt: skip


def decide(project: Project, code: str) -> Row:
    """The automatic QA: pass where the checks pass, reject with what they printed where they do not."""
    began = project.ctx.store.now()
    checked = judge(project, code)
    if checked.ok:
        return _record(project, code, checked, began)
    finding = f"{checked.summary}\n{excerpt(checked.tail)}".strip()
    return reviews.qa_reject(project.ctx, code, findings=[finding], evidence=checked.evidence)
