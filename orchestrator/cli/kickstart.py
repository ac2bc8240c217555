"""``maf kickstart``."""

from __future__ import annotations

import click

from orchestrator.cli.base import Cli, command
from orchestrator.domain import lifecycle as lc


@command(
    None, "kickstart",
    "maf kickstart dev --agent dev-1",
    'claude "$(maf kickstart qa --agent qa-1)"',
    "maf kickstart dev --story S-1", short_help="The prompt that starts an agent of a role.", looks=True,
)  # fmt: skip
@click.argument("role", type=click.Choice([r.value for r in lc.Role]))
@click.option("--story", metavar="CODE", help="A story to work on. Default: the one that the agent holds.")
def cli(cli: Cli, role: str, story: str | None) -> None:
    """The prompt that starts an agent of a role: its story, its paths, the gates, the exact commands."""
    from orchestrator.runner.prompts import kickstart
    from orchestrator.service import stories

    if story is None and role == lc.Role.DEV and cli.agent != lc.USER:
        story = stories.held_by(cli.ctx, cli.agent)
    agent = cli.agent if cli.agent != lc.USER else f"{role}-1" if role in (lc.Role.DEV, lc.Role.QA) else role
    shown = stories.show(cli.ctx, story) if story else None
    root = cli.location.root
    worktree = root / ".maf" / "worktrees" / story if root and story else None
    text = kickstart(role, agent, shown, cli.settings, worktree=worktree)
    # A prompt goes to an agent as it is; the foreign text in it is fenced, not rewritten.
    cli.out({"role": role, "agent": agent, "story": story, "prompt": text}, lambda screen: screen.write(text))
