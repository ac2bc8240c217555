"""What every test that stresses the store ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.service import invariants

if TYPE_CHECKING:
    from orchestrator.service.context import Context


def broken(ctx: Context, repo=None, target=None, *, replay=True) -> dict[str, list]:
    """The names of the invariants that do not hold, with where."""
    return {
        result.name: result.rows[:5] for result in invariants.failed(invariants.check(ctx, repo, target, replay=replay))
    }


def assert_invariants(ctx: Context, repo=None, target=None, *, replay=True) -> None:
    """Every invariant of the workflow holds; the message names those that do not, with rows."""
    found = broken(ctx, repo, target, replay=replay)
    assert not found, found
