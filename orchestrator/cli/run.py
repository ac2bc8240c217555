"""``maf run``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from orchestrator.cli.base import Cli, command
from orchestrator.cli.text import Screen

if TYPE_CHECKING:
    from orchestrator.gates.project import Project
    from orchestrator.runner.events import Report

INTERRUPTED = 130


@command(
    None,
    "run",
    "maf run",
    "maf run --agents 8",
    "maf run --until idle          work off what is due, then end",
    "maf run --json | jq .text     one JSON object a line",
    short_help="Drive the waves: launch agents, check gates, merge.",
)
@click.option("--agents", type=click.IntRange(1, 1000), metavar="N", help="So many dev agents at once.  [run.agents]")
@click.option(
    "--until",
    type=click.Choice(["done", "idle"]),
    default="done",
    show_default=True,
    help="done: every wave has ended. idle: nothing runs and nothing is due.",
)
def cli(cli: Cli, agents: int | None, until: str) -> int:
    """Drive the waves: launch agents, check gates, merge.

    It sleeps until something happens. Killed at any point and run again, it goes on where it was. Ctrl-C ends it in
    good order: agents are ended and their stories given back with their work kept; a second one ends it at once.

    Exit code 0 when every wave is completed, 1 when something failed or it was ended early.
    """
    from orchestrator.cli.run_view import view

    open_project = cli.opener()
    with view(cli.screen, open_project, as_json=cli.as_json, quiet=cli.options.quiet) as report:
        done = drive(open_project, report, cli.screen, until=until, agents=agents)
    return 0 if done else 1


def drive(
    open_project: Callable[[], Project],
    report: Report,
    screen: Screen,
    *,
    until: str = "done",
    agents: int | None = None,
) -> bool:
    """Run the runner with Ctrl-C and SIGTERM in its hands. Whether all went well."""
    from orchestrator.runner.loop import Runner

    runner = Runner(open_project, report, until=until, agents=agents)
    with _ending_by_signal(runner.end, screen):
        return runner.run()


@contextmanager
def _ending_by_signal(end: Callable[[str], None], screen: Screen) -> Iterator[None]:
    """The first signal ends in good order, the second at once: the agents' keepers end what they keep."""
    told = 0

    def handle(number: int, _: object) -> None:
        nonlocal told
        told += 1
        if told > 1:
            if screen.tty:
                os.write(screen.stream.fileno(), b"\x1b[?25h\n")  # the live view hides the cursor
            os._exit(INTERRUPTED)
        end(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
