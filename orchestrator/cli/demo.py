"""``maf demo``."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.base import Cli, command
from orchestrator.cli.text import Screen, clean

GRAPH_COMMITS = 14
_CHECKED_AT = re.compile(r"[^\s'\"]*/\.maf/checks/[^/]+/")


@command(
    None,
    "demo",
    "maf demo                      in ./maf-demo",
    "maf demo /tmp/look",
    "maf demo --db postgresql://localhost/empty",
    short_help="The whole flow on a sample repository, with scripted agents.",
)
@click.argument("directory", metavar="[DIR]", required=False)
def cli(cli: Cli, directory: str | None) -> int:
    """Show the whole flow on a sample repository with scripted agents. Offline, in under a minute.

    It makes a small Python project in DIR (./maf-demo by default; it has to be empty) and drives a plan of three waves
    through maf: four agents, a story that QA rejects, a merge conflict, an agent that dies. All of it is real and stays
    there to look at.

    Exit code 0 when every wave is completed, the invariants hold and the final tree's tests pass.
    """
    from orchestrator.cli.run import drive
    from orchestrator.cli.run_view import lines, view
    from orchestrator.demo import sample, stage
    from orchestrator.demo.outcome import outcome

    given = cli.given.db
    root = stage.folder(directory, Path.cwd())
    started = time.monotonic()
    with stage.build(root, given) as desk:
        if not cli.as_json and not cli.options.quiet:
            screen = cli.screen
            screen.line(f"{screen.style('maf demo', 'bold')}: a sample project in {clean(str(root))}")
            screen.line(f"{len(sample.AGENTS)} scripted agents work on the stories of plan.yaml; times are UTC")
            screen.line()
        open_project = desk.opener()
        report: AbstractContextManager[Any]
        if cli.as_json:
            report = lines(Screen(sys.stderr), quiet=cli.options.quiet)
        else:
            report = view(cli.screen, open_project, quiet=cli.options.quiet)
        with report as tell:
            drive(open_project, tell, cli.screen)
        told = outcome(desk, time.monotonic() - started)
        log = desk.project().repo.git.run("log", "--graph", "--oneline", f"-{GRAPH_COMMITS}", sample.TARGET)
    told["next"] = _next(root, given, told)
    cli.out(told, lambda screen: _summary(screen, told, log.text.splitlines()))
    return 0 if told["ok"] else 1


def _next(root: Path, db: str | None, told: dict[str, Any]) -> list[list[str]]:
    """What to type now, as it works in the shell that the demo was started from."""
    from orchestrator.bootstrap.init import public

    shown = os.path.relpath(root)
    steps = [[f"cd {shlex.quote(str(root) if shown.startswith('..') else shown)}", ""]]
    beside = Path(sys.executable).parent / "maf"
    if shutil.which("maf") is None and beside.exists():
        steps.append([f"alias maf={shlex.quote(str(beside))}", ""])
    if db and public(db) != db:
        steps.append(["export MAF_DB=…", "the store's URL with its password, which maf.toml leaves out"])
    rejected = next((one["story"] for one in told["qa_rejects"]), "L-5")
    conflict = next((one["story"] for one in told["conflicts"]), "L-7")
    return [
        *steps,
        ["maf status", "waves, stories, agents"],
        [f"maf story show {rejected}", "a story's gates with their evidence, and what QA found"],
        [f"maf history {conflict}", "everything that happened to a story, the conflict too"],
        ["git log --graph", "a merge commit for each story; its message lists the gates"],
        ["maf doctor", "the invariants, checked again"],
    ]


def _summary(screen: Screen, told: dict[str, Any], graph: list[str]) -> None:
    merged = sum(1 for one in told["stories"] if one["merge_commit"])
    screen.line()
    screen.line(screen.style("What happened", "bold"))
    screen.line(
        f"{len(told['waves'])} waves, {len(told['stories'])} stories, {told['attempts']} attempts by "
        f"{len(told['agents'])} agents, {merged} merges in {told['seconds']:.0f} s"
    )
    screen.line()
    screen.table(
        ["WAVE", "STATUS", "DONE", "STORIES", "NAME"],
        [[w["wave_code"], w["status"], w["completed"], w["stories"], w["name"]] for w in told["waves"]],
    )
    screen.line()
    screen.table(
        ["STORY", "STATUS", "DOMAIN", "ATTEMPTS", "MERGE", "TITLE"],
        [
            [one["code"], one["status"], one["domain"], ", ".join(run["agent"] for run in one["attempts"]),
             (one["merge_commit"] or "")[:7], one["title"]]
            for one in told["stories"]
        ],
    )  # fmt: skip
    screen.bullets("On the way", list(_incidents(told)))
    screen.line()
    screen.line(screen.style(f"git log --graph --oneline -{GRAPH_COMMITS} {told['target']}", "bold"))
    for line in graph:
        screen.line(f"  {clean(line)}")
    screen.line()
    _verdict(screen, told)
    screen.line()
    screen.facts([("repository", told["directory"]), ("store", told["store"])])
    screen.line()
    screen.line("Look around:")
    room = max(len(step) for step, why in told["next"] if why)
    for step, why in told["next"]:
        screen.line(f"  {clean(step).ljust(room)}   {why}".rstrip())


def _incidents(told: dict[str, Any]) -> list[str]:
    lines = []
    for one in told["qa_rejects"]:
        said = [line for finding in one["findings"] for line in str(finding.get("text", finding)).splitlines()]
        why = next((line for line in reversed(said) if "Error" in line), said[0])
        why = _CHECKED_AT.sub("", why.strip())
        lines.append(f"QA rejected {one['story']}: {why} (a fresh worktree holds only what is committed)")
    lines += [
        f"{one['story']} had a conflict with {told['target']} in {', '.join(one['files'])}: sent back, and resolved"
        for one in told["conflicts"]
    ]
    lines += [
        f"{one['agent']} was killed by signal {one['signal']} on {one['story']}; {one['taken_over_by']} went on with "
        "what it had committed"
        for one in told["deaths"]
    ]
    return lines


def _verdict(screen: Screen, told: dict[str, Any]) -> None:
    good, bad = screen.style("ok", "green"), screen.style("FAILED", "red")
    done = all(wave["status"] == "completed" for wave in told["waves"])
    screen.line(f"{good}  every wave is completed" if done else f"{bad}  not every wave is completed")
    broken = told["invariants"]["failed"]
    screen.line(
        f"{bad}  invariants that do not hold: {', '.join(str(one['number']) for one in broken)}"
        if broken
        else f"{good}  the workflow's invariants hold ({told['invariants']['checked']} checks of store and git)"
    )
    checks = told["checks"]
    tests = f"{checks['tests']} tests, " if checks["tests"] else ""
    screen.line(f"{good if checks['ok'] else bad}  the final tree: {tests}{clean(checks['summary'])}")
