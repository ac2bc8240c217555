"""``maf plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli.base import Cli, command, group
from orchestrator.cli.text import Screen, clean

cli = group("plan", "Waves and stories from files into the store: all of them or none.")

_paths = click.argument("paths", nargs=-1, required=True, metavar="PATH…")
_format = click.option(
    "--format", "format_", metavar="FORMAT", help="native or story-json; told by the files where left out."
)


def _load(cli: Cli, paths: tuple[str, ...], format_: str | None, *, known: bool) -> Any:
    from orchestrator.plans import load

    waves: set[str] = set()
    stories: set[str] = set()
    if known:
        from orchestrator.service import planning

        waves, stories = planning.known_codes(cli.ctx)
    return load([Path(path) for path in paths], format_, known_waves=waves, known_stories=stories)


def _counted(plan: Any) -> dict[str, Any]:
    from orchestrator.domain.planning import summary

    counts = summary(plan)
    notes = list(plan.notes)
    if bare := [story.code for story in plan.stories if not story.criteria]:
        listed = ", ".join(bare[:10]) + (f" and {len(bare) - 10} more" if len(bare) > 10 else "")
        notes.append(f"no acceptance criteria, so that gate 0 will refuse it: {listed}")
    return {
        "format": plan.format, "waves": counts.waves, "stories": counts.stories, "dependencies": counts.dependencies,
        "wave_waits": counts.wave_waits, "criteria": counts.criteria, "points": counts.points,
        "by_wave": counts.stories_by_wave, "by_domain": counts.stories_by_domain, "notes": notes,
    }  # fmt: skip


def _tell(screen: Screen, counts: dict[str, Any], verdict: str, step: str = "") -> None:
    words = (("story", "stories"), ("wave", "waves"), ("dependency", "dependencies"), ("criterion", "criteria"))
    stories, waves, *rest = (f"{counts[many]} {one if counts[many] == 1 else many}" for one, many in words)
    screen.line(f"{verdict}: {stories} in {waves}, {', '.join(rest)} ({counts['format']})")
    for note in counts["notes"]:
        screen.line(f"  note: {clean(note)}")
    if step:
        screen.line(step)


@command(
    cli, "import",
    "maf plan import plan.yaml",
    "maf plan import stories/ --format story-json --dry-run",
)  # fmt: skip
@_paths
@_format
@click.option("--dry-run", is_flag=True, help="Check everything, write nothing.")
def import_(cli: Cli, paths: tuple[str, ...], format_: str | None, dry_run: bool) -> None:
    """Import plan files, or folders of them.

    Every error is reported with its file, line and field, and then nothing is written.
    """
    from orchestrator.service import planning

    plan = _load(cli, paths, format_, known=True)
    counts = _counted(plan)
    if dry_run:
        planning.refuse_taken(cli.ctx, plan)
        cli.out({**counts, "dry_run": True}, lambda s: _tell(s, counts, "would import"))
        return
    planning.import_plan(cli.ctx, plan)
    cli.out(
        {**counts, "dry_run": False},
        lambda s: _tell(s, counts, "imported", "Next: maf run, or by hand: maf story approve CODE"),
    )


@command(cli, "check", "maf plan check plan.yaml")
@_paths
@_format
def check(cli: Cli, paths: tuple[str, ...], format_: str | None) -> None:
    """Check plan files without a store."""
    counts = _counted(_load(cli, paths, format_, known=False))
    cli.out(counts, lambda s: _tell(s, counts, "right"))


@command(cli, "show", "maf plan show", "maf plan show --json", looks=True)
def show(cli: Cli) -> None:
    """The plan as the store has it: waves, their stories, what waits for what."""
    from orchestrator.service import stories, waves

    rows = waves.listing(cli.ctx)
    all_stories = stories.listing(cli.ctx)
    data = {
        "waves": [
            {"code": w["wave_code"], "name": w["name"], "status": w["status"], "after": w["after"],
             "manual": w["start_mode"] == "manual"}
            for w in rows
        ],
        "stories": [
            {"code": s["story_code"], "wave": s["wave_code"], "title": s["title"], "domain": s["domain"],
             "status": s["status"], "priority": s["priority"], "points": s["story_points"],
             "depends_on": s["depends_on"]}
            for s in all_stories
        ],
    }  # fmt: skip
    cli.out(data, lambda s: _show(s, data))


def _show(screen: Screen, data: dict[str, Any]) -> None:
    if not data["waves"] and not data["stories"]:
        screen.line("No plan yet. Next: maf plan import PATH, or by hand: maf wave add W1 --name NAME")
        return
    for wave in [*data["waves"], {"code": None, "name": "stories outside any wave", "status": "", "after": []}]:
        of_wave = [s for s in data["stories"] if s["wave"] == wave["code"]]
        if wave["code"] is None and not of_wave:
            continue
        waits = f"  after {', '.join(wave['after'])}" if wave["after"] else ""
        head = f"{screen.style(clean(wave['code'] or '-'), 'bold')}  {clean(wave['name'])}"
        screen.line(f"{head}  {screen.status(wave['status'])}{waits}")
        if of_wave:
            screen.table(
                ["  STORY", "STATUS", "DOMAIN", "PRIO", "AFTER", "TITLE"],
                [["  " + s["code"], s["status"], s["domain"], s["priority"], ", ".join(s["depends_on"]), s["title"]]
                 for s in of_wave],
            )  # fmt: skip
        screen.line()
