"""``maf doctor``."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass
from typing import Any

import click

from orchestrator.cli.base import Cli, command
from orchestrator.cli.text import Screen, clean
from orchestrator.domain.errors import MafError

OK, WARNING, FAILED = "ok", "warning", "failed"

_REPORT = "maf history CODE says how it came about; please report it."
_GONE = (
    "The target was moved back past the merge, by other means than maf. `git merge SUBMITTED_COMMIT` on the target "
    "brings the work back; the target's reflog says who moved it."
)
_HINTS = {"8.merge_on_target": _GONE, "8.nothing_missing": _GONE}
"""What people themselves can bring about, and how they mend it; all else is a fault of maf's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``hint`` says what to do where it is not ok."""

    name: str
    state: str
    text: str
    hint: str | None = None
    rows: list[dict[str, Any]] | None = None


@command(
    None,
    "doctor",
    "maf doctor",
    "maf doctor --json",
    "maf doctor --fix",
    short_help="Look for what is wrong, and say what to do.",
)
@click.option("--fix", is_flag=True, help="Remove the worktrees of merged stories that hold nothing else.")
def cli(cli: Cli, fix: bool) -> int:
    """Look for what is wrong: git, settings, store, and every invariant of the workflow.

    Exit code 1 where one fails; a missing optional tool is a warning.
    """
    found = [*_environment(cli), *_store(cli)]
    fixed = _fix(cli) if fix else []
    bad = [f for f in found if f.state == FAILED]
    data = {"healthy": not bad, "findings": found, "fixed": fixed}

    def people(screen: Screen) -> None:
        marks = {
            OK: screen.style("ok", "green"),
            WARNING: screen.style("warning", "yellow"),
            FAILED: screen.style("FAILED", "red"),
        }
        for one in found:
            if one.state == OK and one.name.startswith("invariant") and not cli.options.verbose:
                continue
            screen.line(f"{marks[one.state]}{' ' * (9 - len(one.state))}{clean(one.name)}: {clean(one.text)}")
            for row in (one.rows or [])[:5]:
                screen.line("           " + clean(", ".join(f"{k}={v}" for k, v in row.items())))
            if one.hint and one.state != OK:
                screen.line(f"           hint: {clean(one.hint)}")
        holding = sum(f.state == OK and f.name.startswith("invariant") for f in found)
        if any(f.name.startswith("invariant") for f in found):  # a store that cannot be opened has none to look at
            screen.line(f"{holding} invariants hold")
        for text in fixed:
            screen.line(f"fixed: {clean(text)}")

    cli.out(data, people)
    return 1 if bad else 0


def _tried(name: str, look: Any) -> Finding:
    try:
        return Finding(name, OK, look())
    except MafError as error:
        return Finding(name, FAILED, error.message, error.hint)


def _environment(cli: Cli) -> list[Finding]:
    found = [_tried("git", lambda: _git(cli)), _tried("settings", lambda: _settings(cli))]
    if found[-1].state == OK:
        settings = cli.settings
        found += _checkout(cli, settings.target) if found[0].state == OK else []
        checks = settings.checks
        if checks.none:
            found.append(
                Finding("checks", WARNING, f"none: {checks.none}", "Give [checks] commands once there are some.")
            )
        elif not checks.commands:
            found.append(Finding("checks", WARNING, "not configured: gates 3, 4 and 6 will refuse",
                                 'maf.toml: [checks] commands = [["pytest", "-q"]], or none = "why"'))  # fmt: skip
        programs = {c[0]: "a check" for c in checks.commands} | {a.command[0]: f"agent {a.id}" for a in settings.agents}
        programs |= {r.command[0]: f"role {name}" for name, r in settings.roles.items() if r.command}
        found += [
            Finding("program", WARNING, f"{program} ({what}) is not on the PATH", "Install it, or correct maf.toml.")
            for program, what in programs.items()
            if "{" not in program and "/" not in program and shutil.which(program) is None
        ]
    return found


def _git(cli: Cli) -> str:
    from orchestrator.git import Repository

    with Repository.open(cli.location.root or cli.start) as repository:
        major, minor = repository.version()
        shallow = ", shallow clone" if repository.is_shallow else ""
        return f"{major}.{minor}, repository {repository.root}{shallow}"


def _checkout(cli: Cli, target: str) -> list[Finding]:
    """A checkout that shows less than the target holds: a commit there would undo what was merged."""
    from orchestrator.git import Repository

    with Repository.open(cli.location.root or cli.start) as repository:
        behind = repository.left_behind(target)
    return [
        Finding(
            "checkout", WARNING, f"{path} still shows {base[:12]}: a commit there would undo what was merged since",
            f"To catch up, your changes kept: git -C {shlex.quote(str(path))} read-tree -m -u {base} HEAD",
        )
        for path, base in behind
    ]  # fmt: skip


def _settings(cli: Cli) -> str:
    file = cli.location.file
    settings = cli.settings
    return f"{file or 'no maf.toml, defaults hold'}; target {settings.target}"


def _store(cli: Cli) -> list[Finding]:
    from orchestrator.store import upkeep

    try:
        store = cli.store
        problems = upkeep.check(store)
    except MafError as error:
        return [Finding("store", FAILED, error.message, error.hint)]
    found = [Finding("store", OK, f"{store.engine.name} {store.engine.version()}, whole")]
    if problems:
        found = [Finding("store", FAILED, "; ".join(problems[:3]), "Restore a backup.")]
    return [*found, *_invariants(cli)]


def _invariants(cli: Cli) -> list[Finding]:
    from orchestrator.git import Repository
    from orchestrator.service import invariants

    repo, target = None, None
    try:
        repo, target = Repository.open(cli.location.root or cli.start), cli.settings.target
    except MafError:
        pass  # said already; those about git are left out
    try:
        results = invariants.check(cli.ctx, repo, target)
    finally:
        if repo is not None:
            repo.close()
    return [
        Finding(
            f"invariant {r.name}", OK if r.ok else FAILED, "holds" if r.ok else f"does not hold: {len(r.rows)} found",
            None if r.ok else _HINTS.get(r.name, _REPORT), r.rows[:20] or None,
        )
        for r in results
    ]  # fmt: skip


def _fix(cli: Cli) -> list[str]:
    """Clean up only what is proven merged."""
    from orchestrator.domain import lifecycle as lc
    from orchestrator.service import stories

    done: list[str] = []
    project = cli.project()
    merged = {s["story_code"] for s in stories.listing(cli.ctx, status=lc.StoryStatus.COMPLETED)}
    for worktree in project.repo.worktrees()[1:]:
        if worktree.path.parent != project.home / "worktrees" or worktree.path.name not in merged:
            continue
        try:
            project.repo.remove_worktree(worktree.path, target=project.settings.target)
            done.append(f"removed the worktree of {worktree.path.name}, which is merged")
        except MafError as error:
            cli.note(f"kept {clean(str(worktree.path))}: {clean(error.message)}")
    return done
