"""``maf status`` and ``maf history``."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.base import Cli, command
from orchestrator.cli.text import Screen, clean, short


@command(
    None,
    "status",
    "maf status",
    "maf status --json",
    short_help="One look: waves, stories, agents, signals.",
    looks=True,
)
def status(cli: Cli) -> None:
    """One look: waves, stories under way, agents, what waits for somebody."""
    from orchestrator.service import board

    data = board.board(cli.ctx)
    cli.out(data, lambda screen: _status(screen, data))


def _status(screen: Screen, data: dict[str, Any]) -> None:
    for stop in data["stops"]:
        what = "everything" if stop["scope"] == "all" else f"{stop['scope']} {clean(stop['scope_value'])}"
        screen.line(f"{screen.style('STOPPED', 'red')} {what}: {clean(stop['reason'])}   (maf resume)")
    if not data["waves"]:
        screen.line('Nothing planned yet. Next: maf plan import PATH, or maf wave add W1 --name "First wave"')
        return
    screen.table(
        ["WAVE", "STATUS", "DONE", "FAILED", "STORIES", "AFTER", "NAME"],
        [[w["wave_code"], w["status"], w["completed"], w["failed"], w["stories"], ", ".join(w["after"]), w["name"]]
         for w in data["waves"]],
    )  # fmt: skip
    screen.line()
    counts = ", ".join(f"{n} {screen.status(name)}" for name, n in data["stories"].items() if n)
    screen.line(f"Stories: {counts or 'none yet; maf story add'}")
    if data["in_flight"]:
        screen.table(
            ["STORY", "STATUS", "GATE", "AGENT", "SINCE", "TITLE"],
            [[s["story_code"], s["status"], s["current_gate"], s["assigned_agent"], short(s["updated_at"]), s["title"]]
             for s in data["in_flight"]],
        )  # fmt: skip
    screen.line()
    if data["agents"]:
        screen.table(
            ["AGENT", "ROLE", "STATUS", "STORY", "SEEN"],
            [[a["agent_id"], a["agent_type"], a["status"] if a["live"] else "silent", a["story_code"],
              short(a["last_heartbeat"])] for a in data["agents"]],
        )  # fmt: skip
    else:
        screen.line("Agents: none. `maf run` launches them, or: maf agent register dev-1 --role dev")
    if data["pending_signals"]:
        screen.line()
        screen.line("Waiting: " + ", ".join(f"{s['pending']} {s['signal_type']}" for s in data["pending_signals"]))


@command(
    None, "history",
    "maf history --limit 20",
    "maf history S-1",
    "maf history --at 2026-11-22T10:30",
    "maf history --at 15m", short_help="What happened; the state as it was.", looks=True,
)  # fmt: skip
@click.argument("code", metavar="[CODE]", required=False)
@click.option(
    "--at", "at", metavar="TIME", help="The state as it was: ISO 8601 (UTC without a zone), or an age: 15m, 2h."
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
def history(cli: Cli, code: str | None, at: str | None, limit: int) -> None:
    """What happened, of one story or wave or of all, newest first; with --at the state at that time."""
    from orchestrator.domain import moments
    from orchestrator.service import history as log

    if at is None:
        rows = log.history(cli.ctx, code, limit)
        cli.out(rows, lambda screen: _history(screen, rows))
        return
    state = log.state_at(cli.ctx, moments.parse(at, now=cli.store.now()))
    if code is not None:
        from orchestrator.domain.errors import NotFound

        state = {
            **state,
            "waves": [w for w in state["waves"] if w["wave_code"] == code],
            "stories": [s for s in state["stories"] if code in (s["story_code"], s["wave_code"])],
        }
        if not state["waves"] and not state["stories"]:
            raise NotFound(f"there was no story or wave {code!r} at {state['at']}", hint="See `maf history`.")
    cli.out(state, lambda screen: _state(screen, state))


def _history(screen: Screen, rows: list[dict[str, Any]]) -> None:
    if not rows:
        screen.line("Nothing has happened yet.")
        return
    screen.table(
        ["TIME", "WHO", "WHAT", "STORY", "SUMMARY"],
        [[short(r["time"]), r["who"], r["what"], r["story"], r["summary"]] for r in rows],
    )


def _state(screen: Screen, state: dict[str, Any]) -> None:
    screen.line(f"As it was at {short(state['at'])} UTC")
    if not state["waves"] and not state["stories"]:
        screen.line("Nothing was planned yet.")
    if state["waves"]:
        screen.line()
        screen.table(["WAVE", "STATUS", "NAME"], [[w["wave_code"], w["status"], w["name"]] for w in state["waves"]])
    if state["stories"]:
        screen.line()
        screen.table(
            ["STORY", "WAVE", "STATUS", "GATE", "AGENT", "TITLE"],
            [[s["story_code"], s["wave_code"], s["status"], s["current_gate"], s.get("assigned_agent"), s["title"]]
             for s in state["stories"]],
        )  # fmt: skip
