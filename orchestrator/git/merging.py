"""Merging without a worktree: the merged tree first, its commit next, the branch last and by compare-and-swap."""

from __future__ import annotations

from datetime import datetime

from orchestrator.domain.errors import InvalidInput
from orchestrator.git.command import IDENTITY, identity
from orchestrator.git.history import History
from orchestrator.git.models import Conflict, Merged
from orchestrator.git.refs import full_sha


class Merging(History):
    """The steps of gate 6 and 7. None of them touches a worktree."""

    def merge_tree(self, ours: str, theirs: str) -> Merged | Conflict:
        """Merge two commits into a tree. The same two give the same answer, whenever asked."""
        first, second = self.commit(ours), self.commit(theirs)
        if first.sha in second.parents:
            return Merged(second.tree)  # nothing happened on our side: no merge to make
        out = self.git.run("merge-tree", "--write-tree", "-z", "--name-only", first.sha, second.sha, ok=(0, 1))
        fields = out.fields
        if out.code == 0:
            return Merged(fields[0])
        gap = fields.index("", 1)  # TREE, files..., "", then groups: COUNT, paths..., kind, message
        return Conflict(tuple(fields[1:gap]), tuple(_messages(fields[gap + 1 :])))

    def commit_merge(
        self,
        tree: str,
        parents: list[str] | tuple[str, ...],
        message: str,
        when: str,
        author: tuple[str, str] = IDENTITY,
    ) -> str:
        """Make a commit of a tree, and return its id. The same arguments give the same commit, on any machine.

        ``when`` is UTC, ``YYYY-MM-DDTHH:MM:SS[.ffffff]Z``; ``author`` a name and an address. The committer is
        always maf. No branch moves.
        """
        args = [part for parent in parents for part in ("-p", full_sha(parent))]
        env = identity(_name(author[0]), _name(author[1]), git_date(when))
        try:
            text = message.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput("the commit message holds a lone surrogate", hint="give it as valid text") from error
        if b"\0" in text:
            raise InvalidInput("the commit message holds a NUL", hint="give it as plain text")
        return self.git.run("commit-tree", full_sha(tree), *args, "-F", "-", stdin=text, env=env).text


def _messages(fields: list[str]) -> list[str]:
    found = []
    rest = iter(fields)
    for count in rest:
        for _ in range(int(count) + 1):  # the paths, and the kind of message
            next(rest)
        text = next(rest).strip()
        if text and not text.startswith("Auto-merging"):
            found.append(text)
    return found


def git_date(when: str) -> str:
    """A timestamp of ours as git's, in whole seconds UTC."""
    try:
        moment = datetime.fromisoformat(when)
    except ValueError as error:
        raise InvalidInput(f"{when!r} is not a timestamp", hint="YYYY-MM-DDTHH:MM:SS.ffffffZ") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"{when!r} has no time zone", hint="YYYY-MM-DDTHH:MM:SS.ffffffZ, in UTC")
    return f"@{int(moment.timestamp())} +0000"


def _name(value: str) -> str:
    """A name or address as a commit's header can carry it; never empty, which git refuses."""
    return "".join(c for c in value if c.isprintable() and c not in "<>").strip() or IDENTITY[0]
