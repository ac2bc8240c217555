"""``maf init``."""

from __future__ import annotations

import shlex

import click

from orchestrator.cli.base import Cli, command
from orchestrator.cli.text import Screen, clean
from orchestrator.domain.errors import InvalidInput


@command(
    None, "init",
    "maf init",
    'maf init --checks "pytest -q" --checks "ruff check"',
    'maf init --no-checks "a book, not a program"',
    "maf init --db postgresql://db.example.org/maf --target develop",
)  # fmt: skip
@click.option(
    "--target", metavar="BRANCH", help="The branch that stories are merged to. Default: the repository's own."
)
@click.option("--checks", multiple=True, metavar="CMD", help="A command that tests the project; repeatable.")
@click.option("--no-checks", metavar="WHY", help="The project has no checks, and this is why.")
def cli(cli: Cli, target: str | None, checks: tuple[str, ...], no_checks: str | None) -> None:
    """Set this repository up: maf.toml and the store.

    It looks for the commands that test your project and says what it found. Called again, it changes nothing.
    """
    from orchestrator.bootstrap.init import init

    try:
        commands = [shlex.split(one) for one in checks]
    except ValueError as error:
        raise InvalidInput(f"--checks cannot be split into words: {error}", hint="Close the quotes.") from None
    if any(not words for words in commands) or (no_checks is not None and not no_checks.strip()):
        raise InvalidInput("--checks and --no-checks need a text", hint='Such as --checks "pytest -q".')
    done = init(cli.location, target=target, checks=commands, no_checks=no_checks, start=cli.start)
    steps = [
        ["git add maf.toml && git commit -m 'Add maf'", "what the gates check is part of the project"],
        ["maf plan import PLAN.yaml", "or: maf wave add, maf story add"],
        ["maf run", "agents take the stories; see [[agents]] in maf.toml"],
    ]
    cli.out(
        {**done, "next": [step[0] for step in steps[0 if done["made_file"] else 1 :]]}, lambda s: _tell(s, done, steps)
    )


def _tell(screen: Screen, done: dict[str, object], steps: list[list[str]]) -> None:
    screen.line(f"{'made  ' if done['made_file'] else 'kept  '} {clean(done['file'])}")
    screen.line(f"{'made  ' if done['made_store'] else 'kept  '} {clean(done['store'])}")
    for found in done["found"]:  # type: ignore[attr-defined]
        screen.line(f"check   {clean(shlex.join(found['command']))}   (from {clean(found['because'])})")
    if done["secret_left_out"]:
        screen.line("note    the password was not written down: give it as PGPASSWORD, ~/.pgpass or MAF_DB")
    screen.line()
    screen.line("Next:")
    shown = steps if done["made_file"] else steps[1:]
    room = max(len(step[0]) for step in shown)
    for step, why in shown:
        screen.line(f"  {step.ljust(room)}   {why}")
