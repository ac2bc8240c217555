"""Branches and maf's own refs: reading, making, moving by compare-and-swap.

``refs/maf/archive/NAME/…`` keeps work that is on no branch; ``refs/maf/left-behind/BRANCH`` is the commit that a
user's checkout of BRANCH still shows (see ``checkout.py``).
"""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.domain.errors import GuardFailed, InvalidInput, LostRace, NotFound
from orchestrator.git.command import Git
from orchestrator.git.errors import GitFailed
from orchestrator.git.models import Archived, Commit
from orchestrator.git.objects import Objects

ARCHIVE = "refs/maf/archive"
REFLOG = "maf: "  # how the moves that maf made are told from a user's

_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REF_REFUSED = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(/|$)|^[-./]|[./]$|^@$")


def ref_name(prefix: str, name: str) -> str:
    """``prefix/name``, refused (InvalidInput) where git's rules for refs, or a leading dash, forbid it."""
    if not name or _REF_REFUSED.search(name) or len(name) > 200 or not name.isprintable():
        raise InvalidInput(
            f"{name[:60]!r} cannot be a git ref", hint="letters, digits, - _ . and / as `git check-ref-format` allows"
        )
    return f"{prefix}/{name}"


def full_sha(commit: str) -> str:
    """The argument, if it is a full object id; nothing else is passed to a command that writes."""
    if not _SHA.fullmatch(commit):
        raise InvalidInput(f"{commit[:60]!r} is not a full commit id", hint="resolve it first")
    return commit


class Refs:
    """The repository's names. ``root`` is the main worktree, ``common_dir`` its ``.git``."""

    def __init__(self, root: Path, common_dir: Path) -> None:
        self.root = root
        self.common_dir = common_dir
        self.git = Git(root)
        self.objects = Objects(self.git)

    def resolve(self, rev: str) -> str | None:
        """The commit that a revision names, or None."""
        return None if rev.startswith("-") else self.objects.sha(f"{rev}^{{commit}}")

    def commit(self, rev: str) -> Commit:
        """Tree and parents of a commit; NotFound when there is none."""
        found = None if rev.startswith("-") else self.objects.commit(rev)
        if found is None:
            raise NotFound(
                f"there is no commit {rev[:100]!r} in {self.root}", hint="`git log --all` lists what there is"
            )
        return found

    def tip(self, branch: str) -> str:
        """The commit at the end of a local branch; NotFound when there is no such branch."""
        found = self.find_tip(branch)
        if found is None:
            raise NotFound(f"there is no branch {branch!r} in {self.root}", hint=f"git branch {branch} COMMIT makes it")
        return found

    def find_tip(self, branch: str) -> str | None:
        """The commit at the end of a local branch, or None."""
        return self.objects.sha(ref_name("refs/heads", branch))

    def current_branch(self) -> str | None:
        """The branch of the main checkout, also when it has no commit yet; None when HEAD is detached."""
        return branch_of(self.common_dir)

    def default_target(self) -> str | None:
        """The branch that work is most likely meant for: origin's default, main, master, else the current one."""
        origin = read_git_file(self.common_dir / "refs/remotes/origin/HEAD").removeprefix("ref: refs/remotes/origin/")
        for name in (origin, "main", "master", self.current_branch() or ""):
            if name and not _REF_REFUSED.search(name) and self.find_tip(name):
                return name
        return None

    def create_branch(self, name: str, at_commit: str) -> str:
        """Make a branch, and return its tip.

        An existing branch is continued as it is (its tip is returned) when it descends from ``at_commit`` or has
        nothing beyond it; one that has gone another way is refused (GuardFailed).
        """
        ref = ref_name("refs/heads", name)
        existing = self.objects.sha(ref)
        if existing is None:
            zeros = "0" * len(at_commit)
            try:
                self.git.run(
                    "update-ref", "--create-reflog", "-m", f"{REFLOG}branch made", ref, full_sha(at_commit), zeros
                )
                return at_commit
            except GitFailed as error:
                existing = self.objects.sha(ref)
                if existing is None:  # not another process that was first, but git's refusal
                    if "nonexistent object" in error.message or "not a valid SHA1" in error.message:
                        raise NotFound(f"there is no commit {at_commit}", hint="`git log --all` lists them") from error
                    error.hint = f"another branch may stand in the way of {name!r}: see `git branch --list`"
                    raise
        if self.is_ancestor(at_commit, existing) or self.is_ancestor(existing, at_commit):
            return existing
        raise GuardFailed(
            f"branch {name!r} exists and does not descend from {at_commit[:12]}",
            hint=f"git branch -m {name} OTHER-NAME, or continue it: its work is merged with the target by a refresh",
            branch=name,
            tip=existing,
        )

    def update_branch(self, branch: str, new: str, expected_old: str, reason: str = "merge") -> None:
        """Move a branch from ``expected_old`` to ``new``; LostRace when it stands elsewhere by now."""
        ref = ref_name("refs/heads", branch)
        message = REFLOG + " ".join(reason.split())
        try:
            self.git.run("update-ref", "--create-reflog", "-m", message, ref, full_sha(new), full_sha(expected_old))
        except GitFailed as error:
            now = self.objects.sha(ref)
            if now != expected_old:
                raise LostRace(
                    f"target moved: {branch} is at {now[:12] if now else 'nothing'}, not at {expected_old[:12]}",
                    hint="integrate again with its present tip",
                    branch=branch,
                    expected=expected_old,
                    actual=now,
                ) from error
            raise

    def delete_branch(self, branch: str, *, target: str) -> None:
        """Delete a branch whose commits are all on ``target`` or archived; GuardFailed otherwise. Gone is fine."""
        ref = ref_name("refs/heads", branch)
        tip = self.objects.sha(ref)
        if tip is None:
            return
        if not self.is_kept(tip, target):
            raise GuardFailed(
                f"branch {branch!r} holds commits that are not on {target}",
                hint="merge or archive it first",
                branch=branch,
            )
        self.git.run("update-ref", "-d", ref, tip)

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether everything of ``ancestor`` is in ``descendant`` (a commit is in itself)."""
        if ancestor == descendant:
            return True
        tip = self.commit(descendant)  # the common case, a parent, costs no process
        if ancestor in (tip.sha, *tip.parents):
            return True
        base = self.commit(ancestor)
        return self.git.run("merge-base", "--is-ancestor", base.sha, tip.sha, ok=(0, 1)).code == 0

    def is_kept(self, commit: str, target: str) -> bool:
        """Whether a commit is on the target branch or under ``refs/maf/``."""
        tip = self.find_tip(target)
        if tip is not None and commit in (tip, *self.commit(tip).parents):
            return True
        not_in = [tip] if tip else []
        found = self.git.run("rev-list", "-1", full_sha(commit), "--not", *not_in, "--glob=refs/maf/*")
        return not found.out.strip()

    def archive(self, name: str, commit: str, suffix: str = "") -> str:
        """Pin a commit under ``refs/maf/archive/NAME/``, and return the ref. The same commit gives the same ref."""
        ref = self.archive_ref(name, commit, suffix)
        if self.objects.sha(ref) != commit:
            self.git.run("update-ref", ref, commit)
        return ref

    @staticmethod
    def archive_ref(name: str, commit: str, suffix: str = "") -> str:
        """Where a commit is pinned."""
        return f"{ref_name(ARCHIVE, name)}/{full_sha(commit)[:16]}{suffix}"

    def archived(self, prefix: str = "") -> list[Archived]:
        """What is archived under a name, or all of it."""
        where = ref_name(ARCHIVE, prefix) if prefix else ARCHIVE
        lines = self.git.run("for-each-ref", "--format=%(objectname) %(refname)", where).text.splitlines()
        return [Archived(ref, sha) for sha, ref in (line.split(" ", 1) for line in lines)]


def branch_of(git_dir: Path) -> str | None:
    """The branch that a worktree's git directory has checked out; None when detached or unreadable."""
    head = read_git_file(git_dir / "HEAD")
    return head.removeprefix("ref: refs/heads/") if head.startswith("ref: refs/heads/") else None


def read_git_file(path: Path) -> str:
    """A small file of git's, without its line end; empty when it is not there."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").strip()
    except OSError:
        return ""
