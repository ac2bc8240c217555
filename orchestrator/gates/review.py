"""Gate 5: the PM accepts the very commit that was submitted."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.domain.errors import GateFailed
from orchestrator.gates.project import Project
from orchestrator.gates.repeats import keyed
from orchestrator.service import reviews
from orchestrator.store import Row


@keyed("review.accept")
def accept(project: Project, code: str, *, notes: str | None = None, policy: str | None = None) -> Row:
    """Accept; the story joins the merge queue. GateFailed: its branch has moved, and it was returned."""
    story = reviews.may(project.ctx, "accept", code)
    tip = project.repo.find_tip(story["branch_name"])
    # A clone that does not have the branch knows nothing better; gate 6 looks where the merge is made.
    if tip is not None and tip != story["submitted_commit"]:
        reason = f"the branch {story['branch_name']} is at {tip}, submitted was {story['submitted_commit']}"
        reviews.give_back(replace(project.ctx, key=None), code, reason=reason)
        raise GateFailed(f"{code}: {reason}; it is returned", hint="Its dev submits again.")
    return reviews.accept(project.ctx, code, notes=notes, policy=policy)
