"""What ``maf run`` shows while it works: a live view in a terminal, plain lines in a pipe, JSON lines for programs."""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.cli.text import Screen, clean
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import MafError
from orchestrator.runner.events import Event, Report

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live as Region

    from orchestrator.gates.project import Project

PAUSE = 0.25
"""Seconds between two pictures of the live view, at least."""
PATIENCE = 0.5
"""Seconds after which what was said without a change in the store is shown."""
CLOCK = slice(11, 19)
"""Hours, minutes and seconds in a moment."""
QUIET = frozenset({"failed", "trouble", "waiting", "ending", "ended", "finished"})
"""What is said even with ``--quiet``."""
STYLES = {
    "merged": "green", "finished": "green", "wave": "bold", "attempt": "yellow", "merge": "yellow", "qa": "yellow",
    "review": "yellow", "failed": "red", "trouble": "red", "ending": "red", "ended": "red", "waiting": "cyan",
    "recovered": "cyan",
}  # fmt: skip
_BAR = 20


def view(
    screen: Screen, open_project: Callable[[], Project], *, as_json: bool = False, quiet: bool = False
) -> AbstractContextManager[Report]:
    """The view that suits the stream; entered, it is what the runner reports to."""
    if as_json:
        return nullcontext(partial(_json_line, screen))
    if is_live(screen) and not quiet:
        return Live(screen, open_project)
    return lines(screen, quiet=quiet)


def lines(screen: Screen, *, quiet: bool = False) -> AbstractContextManager[Report]:
    """A line for each event; ``quiet`` leaves out those that only say that all goes well."""

    def report(event: Event) -> None:
        if not quiet or event.kind in QUIET:
            _line(screen, event)

    return nullcontext(report)


def is_live(screen: Screen) -> bool:
    """Whether the stream is a terminal that can redraw."""
    return screen.tty and screen.color and screen.unicode and os.environ.get("TERM", "dumb") != "dumb"


def parts(event: Event) -> tuple[str, str, str]:
    """Time, story and text of an event, safe to print; the time in UTC."""
    return event.at[CLOCK], clean(event.story or ""), clean(event.text)


def _line(screen: Screen, event: Event) -> None:
    time, story, text = parts(event)
    screen.line(f"{time}  {story:<8}  {screen.style(text, _style(event))}")
    screen.stream.flush()


def _json_line(screen: Screen, event: Event) -> None:
    screen.write(json.dumps(event.as_dict(), ensure_ascii=True) + "\n")
    screen.stream.flush()


def _style(event: Event) -> str:
    if event.kind == "qa" and event.text.endswith("passed QA"):
        return ""
    return STYLES.get(event.kind, "")


class Live:
    """Events scroll by; below them stand the waves, the stories in flight and the agents, redrawn when they change.

    It has a thread and a connection of its own: it sleeps until somebody commits something.
    """

    def __init__(self, screen: Screen, open_project: Callable[[], Project]) -> None:
        self._screen = screen
        self._open_project = open_project
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="maf-view", daemon=True)

    def __enter__(self) -> Report:
        self._thread.start()
        return self._events.put

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _work(self) -> None:
        from rich.console import Console
        from rich.live import Live as Region

        console = Console(file=self._screen.stream, force_terminal=True, highlight=False)
        project = self._open_project()
        try:
            with (
                project.ctx.store as store,
                Region(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as region,
            ):
                shown: dict[str, Any] = {}
                while True:
                    last = self._closing.is_set()
                    store.engine.prepare_wait()
                    seen = shown
                    with suppress(MafError):  # a store that is away for a moment: the picture stays as it is
                        seen = look(project)
                    self._draw(region, seen, shown)
                    shown = seen
                    if last:
                        return
                    self._closing.wait(PAUSE)
                    while not (self._closing.is_set() or not self._events.empty() or store.engine.wait(PATIENCE)):
                        pass
        except (MafError, OSError):
            # Nothing to draw with or on; what is said is still said.
            self._fall_back()

    def _draw(self, region: Region, seen: dict[str, Any], shown: dict[str, Any]) -> None:
        """Draw once what was said and what there is to see, if that is anything new."""
        said = self._said()
        with region.console:  # what is printed in here is written at once
            if said is not None:
                region.console.print(said, soft_wrap=True)
            if seen != shown:
                region.update(picture(seen, region.console), refresh=True)

    def _said(self) -> RenderableType | None:
        from rich.text import Text

        said: list[Text] = []
        with suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                time, story, text = parts(event)
                said.append(Text.assemble((f"{time}  {story:<8}  ", "dim"), (text, _style(event))))
        return Text("\n").join(said) if said else None

    def _fall_back(self) -> None:
        while not (self._closing.is_set() and self._events.empty()):
            with suppress(queue.Empty, OSError):
                _line(self._screen, self._events.get(timeout=PATIENCE))


def look(project: Project) -> dict[str, Any]:
    """What there is to see now, and nothing else: waves, stories in flight, idle devs."""
    from orchestrator.service import board

    data = board.board(project.ctx)
    return {
        "waves": data["waves"],
        "flight": sorted(
            (story["story_code"], story["current_gate"], story["assigned_agent"] or "", story["title"])
            for story in data["in_flight"]
            if story["status"] != lc.StoryStatus.FAILED
        ),
        "idle": [a["agent_id"] for a in data["agents"] if a["agent_type"] == lc.Role.DEV and not a["story_code"]],
    }


def picture(seen: dict[str, Any], console: Console) -> RenderableType:
    """The waves, the stories in flight and the idle devs, no higher than the terminal."""
    from rich.console import Group

    shown: list[RenderableType] = [_dim("─" * min(console.width, 100)), _waves(seen["waves"])]
    flight = seen["flight"]
    room = max(3, console.height - len(seen["waves"]) - 8)
    if flight:
        shown.append(_flight(flight[:room], len(flight) - room))
    if seen["idle"]:
        shown.append(_dim(f"idle: {', '.join(map(clean, seen['idle'][:12]))}"))
    return Group(*shown)


def _dim(text: str) -> RenderableType:
    from rich.text import Text

    return Text(text, style="dim", no_wrap=True, overflow="ellipsis")


def _waves(waves: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    open_ = [w for w in waves if w["status"] in lc.OPEN_WAVES]
    hidden = max(0, len(waves) - len(open_) - 5)
    for wave in waves[hidden:] if hidden else waves:
        done, total = wave["completed"], wave["stories"]
        full = round(_BAR * done / total) if total else 0
        bar = Text.assemble(("█" * full, "green"), ("░" * (_BAR - full), "dim"))
        status = str(wave["status"]) + (f", {wave['failed']} failed" if wave["failed"] else "")
        style = {"completed": "green", "failed": "red", "active": "cyan"}.get(wave["status"], "dim")
        name = Text(clean(wave["name"]), no_wrap=True, overflow="ellipsis")
        table.add_row(Text(clean(wave["wave_code"]), style="bold"), bar, f"{done}/{total}", Text(status, style), name)
    return table


def _flight(stories: list[tuple[str, int, str, str]], hidden: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    names = {gate.number: gate.name for gate in lc.GATES}
    table = Table.grid(padding=(0, 2))
    for code, gate, agent, title in stories:
        table.add_row(
            Text(clean(code), style="bold"),
            Text(f"gate {gate} {names.get(gate, '')}", style="yellow" if gate >= 4 else "cyan"),
            Text(clean(agent)),
            Text(clean(title), no_wrap=True, overflow="ellipsis"),
        )
    if hidden > 0:
        table.add_row("", Text(f"and {hidden} more", style="dim"))
    return table
