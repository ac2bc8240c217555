"""What a gate needs at hand: the repository, the settings, the store and who acts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.domain.settings import Settings
from orchestrator.git import Repository
from orchestrator.service.context import Context


@dataclass(frozen=True)
class Project:
    """One repository under maf. Its working data is in ``.maf/`` at the repository's root, which git ignores."""

    repo: Repository
    settings: Settings
    ctx: Context

    @property
    def home(self) -> Path:
        """``.maf/``: the store of a single machine, worktrees, logs."""
        return self.repo.root / ".maf"

    def worktree(self, code: str) -> Path:
        """Where the dev of a story works."""
        return self.home / "worktrees" / code

    def check_worktree(self, purpose: str) -> Path:
        """A worktree of maf's own that is brought to a commit for checks."""
        return self.home / "checks" / purpose

    def log(self, *parts: str) -> Path:
        """A log file under ``.maf/logs``; its folder is made."""
        path = self.home.joinpath("logs", *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def acting(self, agent: str, *, epoch: int | None = None, token: int | None = None) -> Project:
        """The same project for another agent."""
        return replace(self, ctx=self.ctx.acting(agent, epoch=epoch, token=token))
