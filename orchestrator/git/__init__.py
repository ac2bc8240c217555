"""Floor 3: the only home of git. Every git process is started here; no store, no service."""

from orchestrator.git.errors import GitFailed, GitUnavailable
from orchestrator.git.models import (
    Archived,
    Change,
    CheckoutUpdate,
    Commit,
    Conflict,
    Merged,
    Refreshed,
    Salvaged,
    Status,
    Worktree,
)
from orchestrator.git.ownership import PathRules, Violation, check_paths
from orchestrator.git.repository import Repository

__all__ = [
    "Archived",
    "Change",
    "CheckoutUpdate",
    "Commit",
    "Conflict",
    "GitFailed",
    "GitUnavailable",
    "Merged",
    "PathRules",
    "Refreshed",
    "Repository",
    "Salvaged",
    "Status",
    "Violation",
    "Worktree",
    "check_paths",
]
