"""``maf stop`` and ``maf resume``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from orchestrator.cli.base import Cli, command
from orchestrator.cli.text import clean
from orchestrator.domain.errors import InvalidInput
from orchestrator.service import stops


def _scope(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--all", "everything", is_flag=True, help="Everything."),
        click.option("--wave", metavar="CODE", help="Those who work in this wave."),
        click.option("--domain", metavar="D", help="Those of this domain."),
        click.option(
            "--agent", "agent_scope", metavar="ID", help="This agent. (Who acts stands before: maf --agent pm …)"
        ),
    ):
        function = option(function)
    return function


def _chosen(agent: str | None, domain: str | None, wave: str | None, everything: bool) -> tuple[str, str | None] | None:
    given = [(s, v) for s, v in (("agent", agent), ("domain", domain), ("wave", wave)) if v is not None]
    chosen: list[tuple[str, str | None]] = [*given, *([("all", None)] if everything else [])]
    if len(chosen) > 1:
        raise InvalidInput("one thing at a time", hint="Give one of --agent ID, --domain D, --wave CODE, --all.")
    return chosen[0] if chosen else None


@command(
    None, "stop",
    'maf stop --all --reason "the wrong branch"',
    'maf stop --agent dev-2 --reason "runs in circles"', short_help="Emergency stop: sessions end, nothing is launched."
)  # fmt: skip
@_scope
@click.option("--reason", required=True, metavar="TEXT", help="Why; everybody concerned hears it.")
def stop(
    cli: Cli, agent_scope: str | None, domain: str | None, wave: str | None, everything: bool, reason: str
) -> None:
    """Emergency stop (pm, cto): sessions end, stories are released, nothing is launched there until `maf resume`."""
    scope = _chosen(agent_scope, domain, wave, everything)
    if scope is None:
        raise InvalidInput("say what to stop", hint="--agent ID, --domain D, --wave CODE or --all")
    done = stops.stop(cli.role("pm"), *scope, reason=reason)
    cli.keep_work()
    ended = ", ".join(map(clean, done["stopped"])) or "nobody was at work there"
    cli.out(done, f"stopped: {ended}. To go on: maf resume")


@command(None, "resume", "maf resume", "maf resume --domain core", short_help="Lift an emergency stop.")
@_scope
def resume(cli: Cli, agent_scope: str | None, domain: str | None, wave: str | None, everything: bool) -> None:
    """Lift the emergency stops in force, or that of one scope (pm, cto)."""
    scope = _chosen(agent_scope, domain, wave, everything)
    rows = stops.lift(cli.role("pm"), *(scope or (None, None)))
    cli.out(rows, f"lifted {len(rows)} stop{'s' if len(rows) > 1 else ''}")
