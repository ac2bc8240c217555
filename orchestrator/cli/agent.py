"""``maf agent``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from orchestrator.cli.base import Cli, command, group
from orchestrator.cli.text import Screen, clean, short
from orchestrator.domain import lifecycle as lc
from orchestrator.service import sessions

cli = group("agent", "Agents: who is registered, live, and on what.")
_id = click.argument("agent_id", metavar="ID")


@command(
    cli, "register",
    "maf agent register dev-1 --role dev --domain core",
    "maf agent register qa-1 --role qa --takeover",
)  # fmt: skip
@_id
@click.option("--role", required=True, type=click.Choice([r.value for r in lc.Role]), help="Who it is; never changes.")
@click.option("--domain", metavar="D", help="A dev's domain; without it a dev takes any.")
@click.option("--takeover", is_flag=True, help="Where the id is live: release what it holds and begin anew.")
@click.option("--ttl", type=int, metavar="SECONDS", help="Silence after which it counts as gone. Default: 8 hours.")
@click.option("--vm", metavar="NAME", help="The machine that it runs on.")
def register(
    cli: Cli, agent_id: str, role: str, domain: str | None, takeover: bool, ttl: int | None, vm: str | None
) -> None:
    """Register an agent, or a further life of its id."""
    person = replace(cli.ctx, agent=lc.USER, epoch=None, token=None)
    row = sessions.register(person, agent_id, role, domain=domain, vm=vm, takeover=takeover, ttl=ttl)
    cli.out(
        row,
        f"{agent_id} is registered as {role} (epoch {row['epoch']}). Its commands: --agent {agent_id}, or MAF_AGENT",
    )


@command(cli, "heartbeat", "maf agent heartbeat --agent dev-1")
def heartbeat(cli: Cli) -> None:
    """Say that you are alive. Every other command with your id does so too."""
    row = sessions.heartbeat(cli.ctx)
    cli.out(row, f"{clean(row['agent_id'])} is {row['status']}, live until {short(row['lease_until'])} UTC")


@command(cli, "list", "maf agent list", "maf agent list --all", looks=True)
@click.option("--all", "ended", is_flag=True, help="Those whose session has ended, too.")
def list_(cli: Cli, ended: bool) -> None:
    """The agents, live ones first."""
    rows = sessions.listing(cli.ctx, ended=ended)

    def people(screen: Screen) -> None:
        if not rows:
            screen.line("No agents yet. Next: maf agent register dev-1 --role dev, or let `maf run` launch them")
            return
        screen.table(
            ["AGENT", "ROLE", "DOMAIN", "STATUS", "STORY", "SEEN", "LIVE"],
            [[r["agent_id"], r["agent_type"], r["domain"], r["status"], r["story_code"], short(r["last_heartbeat"]),
              "yes" if r["live"] else "no"] for r in rows],
        )  # fmt: skip

    cli.out(rows, people)


@command(cli, "show", "maf agent show dev-1", looks=True)
@_id
def show(cli: Cli, agent_id: str) -> None:
    """An agent: its session, what it holds, its lives."""
    data = sessions.show(cli.ctx, agent_id)
    cli.out(data, lambda screen: _show(screen, data))


def _show(screen: Screen, data: dict[str, Any]) -> None:
    screen.facts([
        ("agent", data["agent_id"]), ("role", data["agent_type"]), ("domain", data["domain"]),
        ("status", data["status"]),
        ("epoch", data["epoch"]), ("seen", short(data["last_heartbeat"])), ("progress", short(data["last_progress"])),
        ("live until", short(data["lease_until"])), ("machine", data["vm_identifier"]),
        ("stories done", str(data["total_stories_completed"])),
        ("holds", ", ".join(f"{h['story_code']} (token {h['fencing_token']})" for h in data["holds"])),
    ])  # fmt: skip
    screen.bullets("Lives", [
        f"{e['epoch']}: {short(e['started_at'])} to {short(e['ended_at']) or 'now'}"
        + (f", {e['end_reason']}" if e["end_reason"] else "")
        for e in data["epochs"]
    ])  # fmt: skip


@command(cli, "end", "maf agent end --agent dev-1", "maf agent end dev-1 --reason crashed --agent pm")
@click.argument("agent_id", metavar="[ID]", required=False)
@click.option("--reason", default="it said so", show_default=True, metavar="TEXT", help="Kept in the history.")
def end(cli: Cli, agent_id: str | None, reason: str) -> None:
    """End a session: your own, or any (pm, cto, a person). What it holds is released."""
    who = agent_id or cli.agent
    sessions.end(cli.ctx, who, reason=reason)
    cli.keep_work()
    cli.out({"agent_id": who}, f"the session of {clean(who)} has ended")
