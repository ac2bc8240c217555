"""What git can do to us, as members of the one error tree (``orchestrator.domain.errors``)."""

from __future__ import annotations

from orchestrator.domain.errors import Refused, StoreUnavailable


class GitFailed(Refused):
    """A git command failed; the message carries git's own last line (exit 1)."""

    code = "git_failed"


class GitUnavailable(StoreUnavailable):
    """git is missing or too old, the disk is full, the repository is damaged or unreadable (exit 5)."""

    code = "git_unavailable"
