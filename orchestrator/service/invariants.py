"""The invariants of the workflow, checked: each is a query that returns no row, or a question to git or to the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.domain import lifecycle as lc
from orchestrator.service.context import Context
from orchestrator.service.history import differences
from orchestrator.store import Reader, Row
from orchestrator.store.dialect import query_names
from orchestrator.store.schema import VERSION
from orchestrator.store.unit import as_list

TITLES: dict[int, str] = {
    1: "a story has at most one open assignment, and names its agent",
    2: "fencing tokens are 1..n, and assignments of a story never overlap",
    3: "no lease was cut short, and no open assignment has an ended holder",
    4: "nothing is assigned or completed before what it waits for",
    5: "gates are passed one by one, and current_gate is where they led",
    6: "a completed story has passed every gate, QA by another than its devs",
    7: "no gate was passed without evidence",
    8: "a completed story has exactly one merge, and it is on the target",
    9: "no commit is lost",
    10: "waves complete exactly once, with all their stories; a dev holds one story",
    11: "a broadcast reached exactly the agents that were live",
    12: "a delivery is sent, acknowledged, processed in that order, and once",
    13: "every signal's sender may send it",
    14: "no run started over its budget",
    15: "the log, replayed from empty, gives the tables",
    16: "one result for an idempotency key; all times are UTC",
    17: "the store is sound, and its schema known",
}

_PREFIX = "invariant."


class Repository(Protocol):
    """What 6, 8 and 9 ask of git."""

    def resolve(self, rev: str) -> str | None:
        """The commit that a revision names, or None."""

    def find_tip(self, branch: str) -> str | None:
        """The commit at the end of a local branch, or None."""

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether everything of ``ancestor`` is in ``descendant``."""

    def is_kept(self, commit: str, target: str) -> bool:
        """Whether a commit is on the target branch or under a ref of maf's own."""


@dataclass(frozen=True, slots=True)
class Result:
    """One check. ``ok`` is ``not rows``; each row says where the invariant does not hold."""

    number: int
    name: str
    ok: bool
    rows: list[Row]

    @property
    def title(self) -> str:
        """What the invariant says, in words."""
        return TITLES[self.number]


def check(
    ctx: Context, repo: Repository | None = None, target: str | None = None, *, replay: bool = True
) -> list[Result]:
    """Every invariant; those about git where a ``repo`` and its ``target`` are given.

    ``replay`` False leaves out 15, which reads the whole log.
    """
    results: list[Result] = []
    with ctx.store.read() as reader:
        given = {
            "version": VERSION,
            "allowed": as_list(
                [f"{r.type}/{role}" for r in lc.SIGNALS.values() for role in _roles(r)], reader.engine.name
            ),
        }
        for name in query_names():
            _, _, number = name.partition(_PREFIX)
            if not name.startswith(_PREFIX) or not number.split(".")[0].isdigit():
                continue
            results.append(_result(int(number.split(".")[0]), number, reader.all(name, **given)))
        if repo is not None and target is not None:
            results += _git(reader, repo, target)
    if replay:
        results.append(_result(15, "15.replay", differences(ctx)))
    return sorted(results, key=lambda result: (result.number, result.name))


def failed(results: list[Result]) -> list[Result]:
    """Those that do not hold."""
    return [result for result in results if not result.ok]


def _result(number: int, name: str, rows: list[Row]) -> Result:
    return Result(number, name, not rows, rows)


def _roles(rule: lc.SignalRule) -> Iterator[str]:
    """The roles that may send it: the left side of the signals' table."""
    yield from (role for role in lc.Role if lc.ANY in rule.sender or role in rule.sender)


def _git(reader: Reader, repo: Repository, target: str) -> list[Result]:
    tip = repo.find_tip(target)
    if tip is None:
        gone = [{"target": target, "problem": "there is no such branch"}]
        return [_result(8, "8.merge_on_target", gone)]
    merged = reader.all("invariant.git.merged")
    return [
        _result(6, "6.merged_what_qa_saw", [
            row for row in merged if not _contains(repo, row["merge_commit"], row["submitted_commit"])
        ]),
        _result(8, "8.merge_on_target", [row for row in merged if not _contains(repo, tip, row["merge_commit"])]),
        _result(8, "8.nothing_missing", [row for row in merged if not _contains(repo, tip, row["submitted_commit"])]),
        _result(9, "9.nothing_lost", list(_lost(reader, repo, target))),
    ]  # fmt: skip


def _contains(repo: Repository, whole: str | None, part: str | None) -> bool:
    if not whole or not part or repo.resolve(whole) is None or repo.resolve(part) is None:
        return False
    return repo.is_ancestor(part, whole)


def _lost(reader: Reader, repo: Repository, target: str) -> Iterator[dict[str, Any]]:
    """Commits that a dev passed a gate with or submitted, and that no branch of the story, archive or target holds."""
    for row in reader.all("invariant.git.known"):
        tip = repo.find_tip(row["branch_name"]) if row["branch_name"] else None
        kept = repo.resolve(row["commit_sha"]) is not None and (
            (tip is not None and repo.is_ancestor(row["commit_sha"], tip)) or repo.is_kept(row["commit_sha"], target)
        )
        if not kept:
            yield row
