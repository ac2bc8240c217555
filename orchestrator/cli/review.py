"""``maf qa``, ``maf review`` and ``maf merge``."""

from __future__ import annotations

import click

from orchestrator.cli.base import Cli, command, group
from orchestrator.cli.text import clean
from orchestrator.service import reviews

qa = group("qa", "Gate 4: QA runs the checks afresh and judges.")
review = group("review", "Gate 5: the PM accepts or returns.")
_code = click.argument("code", metavar="CODE")
_finding = click.option("--finding", "findings", multiple=True, metavar="TEXT", help="What was found; repeatable.")
_coverage = click.option("--coverage", type=click.IntRange(0, 100), metavar="PERCENT", help="The tests' coverage.")


@command(qa, "pass", "maf qa pass S-1 --agent qa-1", "maf qa pass S-1 --coverage 91 --agent qa-1")
@_code
@_finding
@_coverage
def qa_pass(cli: Cli, code: str, findings: tuple[str, ...], coverage: int | None) -> None:
    """Pass gate 4 (qa): runs the checks in a fresh worktree at the submitted commit.

    Where they fail: exit code 1, the story is unchanged, the evidence is kept.
    """
    from orchestrator.gates.qa import qa_pass as judge

    cli.note(f"running the checks of {clean(code)} afresh")
    row = judge(cli.project("qa"), code, findings=findings, coverage=coverage)
    cli.out(row, f"{code} passed QA. Next: maf review accept {code} --agent pm")


@command(qa, "reject", 'maf qa reject S-1 --finding "accepts 30 February" --agent qa-1')
@_code
@_finding
@_coverage
def reject(cli: Cli, code: str, findings: tuple[str, ...], coverage: int | None) -> None:
    """Reject at gate 4 (qa), with at least one finding: back to its dev."""
    row = reviews.qa_reject(cli.role("qa"), code, findings=findings, coverage=coverage)
    cli.out(row, f"{code} is {row['status']} again, with its findings")


@command(review, "accept", "maf review accept S-1 --agent pm")
@_code
@click.option("--notes", metavar="TEXT", help="Kept with the gate.")
def accept(cli: Cli, code: str, notes: str | None) -> None:
    """Pass gate 5 (pm): the story joins the merge queue.

    Where its branch is not at the submitted commit any more, it goes back to its dev: exit code 1.
    """
    from orchestrator.gates.review import accept as let_pass

    row = let_pass(cli.project("pm"), code, notes=notes)
    cli.out(row, f"{code} is accepted. Next: maf merge {code} --agent cto")


@command(review, "return", 'maf review return S-1 --reason "the help text is missing" --agent pm')
@_code
@click.option("--reason", required=True, metavar="TEXT", help="What is missing; its dev hears it.")
def return_(cli: Cli, code: str, reason: str) -> None:
    """Return at gate 5 (pm): back to its dev."""
    row = reviews.give_back(cli.role("pm"), code, reason=reason)
    cli.out(row, f"{code} is {row['status']} again")


@command(
    None,
    "merge",
    "maf merge S-1 --agent cto",
    'maf merge S-1 --refuse "not before the release" --agent cto',
    short_help="Gates 6 and 7: integrate, check, move the target.",
)
@_code
@click.option("--refuse", metavar="REASON", help="Do not merge it: back to its dev.")
def merge(cli: Cli, code: str, refuse: str | None) -> None:
    """Gates 6 and 7 (cto): merge with the target's tip, run the checks on the result, move the target.

    A conflict or a failed check sends the story back to its dev: exit code 1.
    """
    from orchestrator.gates import integration

    if refuse is not None:
        row = integration.refuse(cli.project("cto"), code, refuse)
        cli.out(row, f"{code} is {row['status']} again")
        return
    cli.note(f"integrating {clean(code)}")
    row = integration.merge(cli.project("cto"), code)
    checkout = row["checkout"]
    text = f"{code} is merged into {clean(row['target'])} as {row['commit'][:12]}"
    if checkout["reason"]:
        text += f"\nyour checkout was left as it is: {clean(checkout['reason'])}"
        text += f"\nhint: {clean(checkout['hint'])}" if checkout["hint"] else ""
    cli.out(row, text)
