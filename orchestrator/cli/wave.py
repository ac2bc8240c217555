"""``maf wave``."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.base import Cli, command, group
from orchestrator.cli.text import Screen, clean, short
from orchestrator.service import waves

cli = group("wave", "Waves: groups of stories that are worked on together.")
_code = click.argument("code", metavar="CODE")
PM = "pm"


def _after(waited: tuple[str, ...]) -> list[str]:
    return [code for text in waited for code in text.split(",") if code]


@command(cli, "add", 'maf wave add W1 --name "First wave"', 'maf wave add W2 --name "Second wave" --after W1')
@_code
@click.option("--name", required=True, help="What people call it.")
@click.option("--description", help="More about it.")
@click.option("--priority", type=int, default=1, show_default=True, help="1 is the most urgent.")
@click.option("--after", multiple=True, metavar="WAVE", help="Wait for this wave; repeatable, or with commas.")
@click.option("--manual", is_flag=True, help="Start only by `maf wave start`, not by itself.")
def add(
    cli: Cli, code: str, name: str, description: str | None, priority: int, after: tuple[str, ...], manual: bool
) -> None:
    """Add a wave."""
    row = waves.add(
        cli.ctx, code, name=name, description=description, priority=priority, manual=manual, after=_after(after)
    )
    cli.out(row, f"{code} is planned. Next: maf story add CODE --wave {code} --title TITLE --domain D --criteria TEXT")


@command(cli, "list", "maf wave list", "maf wave list --json", looks=True)
def list_(cli: Cli) -> None:
    """All waves with their counts."""
    rows = waves.listing(cli.ctx)

    def people(screen: Screen) -> None:
        if not rows:
            screen.line('No waves yet. Next: maf plan import PATH, or maf wave add W1 --name "First wave"')
            return
        screen.table(
            ["WAVE", "STATUS", "DONE", "FAILED", "STORIES", "AFTER", "NAME"],
            [[w["wave_code"], w["status"], w["completed"], w["failed"], w["stories"], ", ".join(w["after"]), w["name"]]
             for w in rows],
        )  # fmt: skip

    cli.out(rows, people)


def _show(cli: Cli, code: str) -> None:
    data = waves.status(cli.ctx, code)

    def people(screen: Screen) -> None:
        screen.line(f"{screen.style(clean(code), 'bold')}  {clean(data['name'])}")
        screen.facts([
            ("status", data["status"]), ("after", ", ".join(data["after"])), ("description", data["description"]),
            ("started", short(data["started_at"])), ("completed", short(data["completed_at"])),
            ("counts", ", ".join(f"{n} {status}" for status, n in data["counts"].items())),
        ])  # fmt: skip
        if data["stories"]:
            screen.line()
            screen.table(
                ["STORY", "STATUS", "GATE", "DOMAIN", "AGENT", "TITLE"],
                [[s["story_code"], s["status"], s["current_gate"], s["domain"], s["assigned_agent"], s["title"]]
                 for s in data["stories"]],
            )  # fmt: skip
        else:
            screen.line(f"No stories in it yet. Next: maf story add CODE --wave {clean(code)} --title TITLE --domain D")

    cli.out(data, people)


@command(cli, "show", "maf wave show W1", looks=True)
@_code
def show(cli: Cli, code: str) -> None:
    """A wave and its stories."""
    _show(cli, code)


@command(cli, "status", "maf wave status W1 --json", looks=True)
@_code
def status(cli: Cli, code: str) -> None:
    """How far a wave is: its counts and stories."""
    _show(cli, code)


def _moved(cli: Cli, row: dict[str, Any]) -> None:
    cli.out(row, f"{row['wave_code']} is {row['status']}")


@command(cli, "start", "maf wave start W1 --agent pm")
@_code
def start(cli: Cli, code: str) -> None:
    """Start a wave (pm); the waves that it waits for must be completed."""
    _moved(cli, waves.start(cli.role(PM), code))


@command(cli, "pause", "maf wave pause W1 --agent pm")
@_code
def pause(cli: Cli, code: str) -> None:
    """Pause an active wave (pm): nothing in it advances until it is resumed."""
    _moved(cli, waves.pause(cli.role(PM), code))


@command(cli, "resume", "maf wave resume W1 --agent pm")
@_code
def resume(cli: Cli, code: str) -> None:
    """Let a paused wave go on (pm)."""
    _moved(cli, waves.resume(cli.role(PM), code))


@command(cli, "fail", 'maf wave fail W1 --reason "cancelled" --agent pm')
@_code
@click.option("--reason", required=True, metavar="TEXT", help="Why; everybody hears it.")
def fail(cli: Cli, code: str, reason: str) -> None:
    """Give a wave up, with all its unended stories (pm)."""
    failed = waves.fail(cli.role(PM), code, reason=reason)
    cli.keep_work()
    _moved(cli, failed)


@command(cli, "retry", "maf wave retry W1 --agent pm", "maf wave retry W1 --without S-9 --agent pm")
@_code
@click.option("--without", multiple=True, metavar="STORY", help="Move this story out of the wave first; repeatable.")
def retry(cli: Cli, code: str, without: tuple[str, ...]) -> None:
    """Take a failed wave up again: its failed stories are reopened (pm)."""
    _moved(cli, waves.retry(cli.role(PM), code, without=_after(without)))
