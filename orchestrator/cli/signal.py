"""``maf signal``."""

from __future__ import annotations

import json
from typing import Any

import click

from orchestrator.cli.base import Cli, command, group, json_input
from orchestrator.cli.text import Screen, clean, short
from orchestrator.domain import lifecycle as lc
from orchestrator.service import signals

cli = group("signal", "Signals: what agents tell each other. Each has one delivery for each who should hear it.")
_id = click.argument("signal_id", metavar="ID")
_AS_PM = (lc.SignalType.ANSWER, lc.SignalType.EMERGENCY_STOP)


@command(
    cli, "send",
    """maf signal send help_needed --agent dev-1 --payload '{"question": "which date formats?"}'""",
    """maf signal send answer --reply-to ID --payload '{"text": "ISO only"}' --agent pm""",
)  # fmt: skip
@click.argument("type_", metavar="TYPE")
@click.option("--payload", default="{}", metavar="JSON", help="An object; - reads standard input, @FILE a file.")
@click.option("--to", metavar="WHOM", help="An agent's id, role:R[/DOMAIN], all:R[/DOMAIN]. Default: the type's own.")
@click.option("--story", metavar="CODE", help="The story it is about. Default: the sender's current one.")
@click.option("--reply-to", metavar="ID", help="The signal that it answers.")
@click.option("--priority", type=int, default=1, show_default=True, help="1 is the most urgent.")
@click.option("--expires-in", type=float, metavar="SECONDS", help="Expire when nobody has processed it by then.")
def send(
    cli: Cli, type_: str, payload: str, to: str | None, story: str | None, reply_to: str | None, priority: int,
    expires_in: float | None,
) -> None:  # fmt: skip
    """Send a signal by hand: blocked, help_needed, answer or emergency_stop."""
    body = json_input(payload, "--payload")
    ctx = cli.role("pm") if type_ in _AS_PM else cli.ctx
    row = signals.send(ctx, type_, body, to=to, story=story, cause=reply_to, priority=priority, expires_in=expires_in)
    whom = clean(row["to_agent"] or "all")
    # A message alone ends nothing; whoever sends this one may think that it does.
    more = ". It ends nobody by itself; that is: maf stop --all" if type_ == lc.SignalType.EMERGENCY_STOP else ""
    cli.out(row, f"{row['signal_type']} sent to {whom}: {row['id']}{more}")


def _line(row: dict[str, Any]) -> list[Any]:
    payload = json.dumps(row["payload"], ensure_ascii=False)
    return [row.get("signal_id") or row["id"], row["signal_type"], row["from_agent"], short(row["sent_at"]), payload]


@command(cli, "inbox", "maf signal inbox --agent dev-1", "maf signal inbox --json")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
def inbox(cli: Cli, limit: int) -> None:
    """What waits for you, and what you have taken and not finished. Nothing is taken by looking."""
    data = signals.inbox(cli.ctx, size=limit)

    def people(screen: Screen) -> None:
        if not data["pending"] and not data["taken"]:
            screen.line(f"Nothing waits for {clean(cli.agent)}.")
        for title, key, step in (("Pending", "pending", "ack ID"), ("Taken", "taken", "done ID")):
            if data[key]:
                screen.line(screen.style(f"{title} (maf signal {step})", "bold"))
                screen.table(["ID", "TYPE", "FROM", "SENT", "PAYLOAD"], [_line(row) for row in data[key]])

    cli.out(data, people)


@command(cli, "ack", "maf signal ack 0199… --agent pm")
@_id
def ack(cli: Cli, signal_id: str) -> None:
    """Take a signal: of a role, exactly one wins. Exit code 4: another has it."""
    cli.out(
        signals.acknowledge(cli.ctx, signal_id), f"taken. When it is dealt with: maf signal done {clean(signal_id)}"
    )


@command(cli, "done", "maf signal done 0199… --agent pm")
@_id
def done(cli: Cli, signal_id: str) -> None:
    """Mark a signal as processed, taking it first where that is still open."""
    cli.out(signals.done(cli.ctx, signal_id), "processed")


@command(cli, "show", "maf signal show 0199…", looks=True)
@_id
def show(cli: Cli, signal_id: str) -> None:
    """A signal and who has heard it."""
    data = signals.show(cli.ctx, signal_id)
    cli.out(data, lambda screen: _show(screen, data))


def _show(screen: Screen, data: dict[str, Any]) -> None:
    screen.facts([
        ("id", data["id"]), ("type", data["signal_type"]), ("status", data["status"]), ("from", data["from_agent"]),
        ("to", data["to_agent"] or "all"), ("sent", short(data["created_at"])),
        ("payload", json.dumps(data["payload"], ensure_ascii=False)), ("replies to", data["cause_id"]),
    ])  # fmt: skip
    if data["deliveries"]:
        screen.line()
        screen.table(
            ["ADDRESSEE", "STATUS", "TAKEN BY", "PROCESSED"],
            [[d["addressee"], d["status"], d["taken_by"], short(d["processed_at"])] for d in data["deliveries"]],
        )


@command(cli, "list", "maf signal list", "maf signal list --story S-1 --status pending", looks=True)
@click.option("--story", metavar="CODE", help="Only about this story.")
@click.option("--status", type=click.Choice([s.value for s in lc.SignalStatus]), help="Only with this status.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The newest so many.")
def list_(cli: Cli, story: str | None, status: str | None, limit: int) -> None:
    """Signals of everybody, the newest first."""
    from orchestrator.service import board

    rows = board.signals(cli.ctx, story=story, status=status, limit=limit)

    def people(screen: Screen) -> None:
        if not rows:
            screen.line("No signals of that kind." if story or status else "No signals yet.")
            return
        screen.table(
            ["ID", "SENT", "TYPE", "FROM", "TO", "STORY", "STATUS"],
            [[r["id"], short(r["created_at"]), r["signal_type"], r["from_agent"], r["to_agent"] or "all",
              r["story_code"], r["status"]] for r in rows],
        )  # fmt: skip

    cli.out(rows, people)


@command(cli, "types", "maf signal types")
def types(cli: Cli) -> None:
    """Every type of signal: from whom, to whom, with what."""
    rules = lc.SIGNALS.values()
    data = [
        {"type": r.type, "from": list(r.sender), "to": r.to, "required": list(r.required), "by_hand": r.by_hand,
         "extension": r.extension}
        for r in rules
    ]  # fmt: skip
    heads = ["TYPE", "FROM", "TO", "PAYLOAD", "BY HAND"]
    rows = [[r.type, " ".join(r.sender), r.to, ", ".join(r.required), "yes" if r.by_hand else ""] for r in rules]
    cli.out(data, lambda screen: screen.table(heads, rows))
