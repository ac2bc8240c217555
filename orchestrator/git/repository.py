"""The door to git: everything that maf does with a repository is a method of ``Repository``.

Pure git: it knows neither the store nor the service. Its parts, each on top of the former: ``refs`` (names),
``history`` (diffs), ``merging`` (trees and merge commits), ``salvage`` (keeping work), ``worktrees`` and ``checkout``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from orchestrator.domain.errors import MafError, NotFound, Refused
from orchestrator.git.checkout import Checkouts
from orchestrator.git.command import Git, failure
from orchestrator.git.worktrees import Worktrees


class Repository(Worktrees, Checkouts):
    """One git repository, seen from its main worktree. Safe to share between threads; ``close`` or ``with`` ends it."""

    @classmethod
    def open(cls, start: Path) -> Repository:
        """The repository around ``start``, also from inside a linked worktree or a folder below.

        NotFound without one; Refused for a bare one, one without commits, or one with reftable refs.
        A submodule is a repository of its own; a shallow clone is fine as long as merges find a common ancestor.
        """
        git = Git(start if start.is_dir() else start.parent)
        args = ("rev-parse", "--path-format=absolute", "--is-bare-repository", "--is-inside-work-tree")
        found = git.run(*args, "--git-common-dir", "--git-dir", "--show-toplevel", "HEAD", ok=(0, 128))
        facts = os.fsdecode(found.out).splitlines()
        if len(facts) < 4:
            raise _unusable(start, found.err) or failure(("rev-parse",), found)
        bare, inside, common, git_dir = facts[:4]
        if bare == "true":
            raise Refused(f"{common} is a bare repository", hint="clone it, and run maf in the clone")
        if inside != "true" or len(facts) < 5:
            raise Refused(f"{start} is inside git's own folder", hint="run maf in the repository's working tree")
        repository = cls(Path(facts[4]), Path(common))
        if git_dir != common:
            main = repository.worktrees()[0]
            if not (main.path / ".git").exists():
                raise Refused(
                    f"{main.path} has worktrees but no checkout of its own", hint="clone it, and run maf in the clone"
                )
            repository = cls(main.path, Path(common))
        if (repository.common_dir / "refs" / "heads").is_file():
            raise Refused("the repository keeps its refs as a reftable", hint="git refs migrate --ref-format=files")
        if found.code and not repository.git.run("for-each-ref", "--count=1", "refs/heads").out:
            raise Refused(
                f"{repository.root} has no commit yet", hint="git add -A && git commit -m 'First commit', then again"
            )
        return repository

    @property
    def is_shallow(self) -> bool:
        """Whether the history is cut off (``git clone --depth``)."""
        return (self.common_dir / "shallow").exists()

    def version(self) -> tuple[int, int]:
        """Major and minor version of git; GitUnavailable (exit 5) when older than maf needs."""
        return self.git.version()

    def close(self) -> None:
        """End the helper process; the next question starts it again."""
        self.objects.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unusable(start: Path, err: str) -> MafError | None:
    if "not a git repository" in err:
        return NotFound(f"there is no git repository at {start} or above", hint="git init")
    return None
