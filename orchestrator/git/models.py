"""What the git part answers with.

Paths are str; bytes that are no UTF-8 are kept as surrogates, which ``os.fsencode`` turns back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SYMLINK = "120000"
SUBMODULE = "160000"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit, as far as maf cares: full hex ids."""

    sha: str
    tree: str
    parents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One file of a diff.

    ``status`` is git's letter (A, M, D, R, C, T); modes are six octal digits, ``000000`` where the side
    has no file. ``old_path`` is set for renames and copies, ``link_target`` for a symlink on the new side.
    """

    path: str
    status: str
    old_path: str | None = None
    old_mode: str = "000000"
    new_mode: str = "100644"
    link_target: str | None = None

    @property
    def is_symlink(self) -> bool:
        """Whether it leaves a symlink."""
        return self.new_mode == SYMLINK

    @property
    def is_submodule(self) -> bool:
        """Whether either side is a submodule."""
        return SUBMODULE in (self.old_mode, self.new_mode)

    @property
    def touched(self) -> tuple[str, ...]:
        """The paths this change writes: both sides of a rename, the new side of a copy."""
        if self.status == "R" and self.old_path is not None:
            return (self.old_path, self.path)
        return (self.path,)


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge without conflict: the resulting tree, already in the object store."""

    tree: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A merge that needs somebody: the files, and git's own words about them."""

    files: tuple[str, ...]
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Archived:
    """A commit kept alive by a ref of maf's own."""

    ref: str
    commit: str


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What was pinned of a worktree.

    ``head`` is its HEAD commit (None when unborn), ``dirty`` a commit of its uncommitted state (None when
    clean), ``refs`` what keeps them, ``skipped`` the untracked files that could not be read.
    """

    head: str | None
    dirty: str | None
    refs: tuple[str, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refreshed:
    """A story's branch brought onto the target's tip.

    ``conflict``: the merge is started in the worktree (MERGE_HEAD set, markers in ``files``); whoever takes
    the story resolves it and commits. ``head`` is the branch's tip afterwards.
    """

    kind: Literal["unchanged", "fast_forward", "merged", "conflict"]
    head: str
    files: tuple[str, ...] = ()
    salvaged: Salvaged | None = None


@dataclass(frozen=True, slots=True)
class CheckoutUpdate:
    """What became of a user's checkout after its branch moved.

    ``updated``: index and files follow. ``left``: not touched; ``reason`` says why, ``hint`` what to run.
    ``not_on_branch``: nobody has the branch checked out. ``none``: it already stood at the new commit.
    ``others`` are further worktrees that have the branch checked out.
    """

    kind: Literal["updated", "left", "not_on_branch", "none"]
    path: Path
    reason: str | None = None
    hint: str | None = None
    others: tuple[CheckoutUpdate, ...] = ()


@dataclass(frozen=True, slots=True)
class Worktree:
    """A registered worktree; the first one listed is the main one."""

    path: Path
    head: str | None
    branch: str | None
    locked: bool = False
    prunable: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """Uncommitted work: tracked files that differ from HEAD or the index, unmerged ones, untracked ones."""

    changed: tuple[str, ...]
    unmerged: tuple[str, ...]
    untracked: tuple[str, ...]
    staged_and_changed: bool

    @property
    def clean(self) -> bool:
        """Nothing is uncommitted."""
        return not (self.changed or self.unmerged or self.untracked)
