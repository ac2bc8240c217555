"""Worktrees that survive: made, repaired, reused and removed so that kill -9 at any point can be carried on from.

A worktree of maf's is in one of these states, told apart by files of git's layout, without a process:
healthy; half made (git's own ``locked`` note still says "initializing"); half removed (our mark is set);
unlinked (its ``.git`` file or its registration is gone). Nobody works in the middle two, so they may be thrown away.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import time
from pathlib import Path

from orchestrator.domain.errors import GuardFailed, InvalidInput, MafError
from orchestrator.git.command import IDENTITY, identity
from orchestrator.git.errors import GitFailed, GitUnavailable
from orchestrator.git.models import Refreshed, Salvaged, Worktree
from orchestrator.git.refs import branch_of, full_sha, read_git_file, ref_name
from orchestrator.git.salvage import Salvage, break_stale_locks, operation

_REMOVING = "maf-removing"  # in the worktree's git directory: its work is safe, its removal has begun


class Worktrees(Salvage):
    """The worktrees of stories (on their branch) and of checks (detached)."""

    def worktrees(self) -> list[Worktree]:
        """All registered worktrees, the main one first."""
        found = []
        for block in os.fsdecode(self.git.run("worktree", "list", "--porcelain", "-z").out).split("\0\0"):
            facts = dict(line.partition(" ")[::2] for line in block.split("\0") if line)
            if "worktree" in facts:
                branch = facts.get("branch", "").removeprefix("refs/heads/") or None
                head = facts.get("HEAD", "").strip("0") and facts["HEAD"]
                found.append(
                    Worktree(Path(facts["worktree"]), head or None, branch, "locked" in facts, "prunable" in facts)
                )
        return found

    def add_worktree(self, path: Path, branch: str, start_point: str | None = None) -> str:
        """Make sure that ``path`` is a worktree on ``branch``, and return the branch's tip.

        Already so: nothing is done but for the locks of dead git commands. Half made, half removed or unlinked:
        repaired. On another branch, or in a rebase: its work is archived under the branch's name and it is made anew.
        With ``start_point`` (a full commit id) a missing branch is made there. GuardFailed when something that is no
        worktree of this repository stands at ``path``, or the branch is checked out elsewhere.
        """
        ref_name("refs/heads", branch)
        if start_point is None:
            self.tip(branch)
        with self._alone(path) as lock:
            git_dir = self._repaired(path)
            if git_dir is not None:
                break_stale_locks(git_dir)
                if branch_of(git_dir) == branch:
                    return self.tip(branch)
                self.salvage(path, branch)
                self._discard(path, git_dir)
            if start_point is not None and self.find_tip(branch) is None:
                self.create_branch(branch, start_point)
            taken = self.checkouts(branch)
            if taken:
                raise GuardFailed(
                    f"{branch} is checked out at {taken[0][0]}",
                    hint=f"check out another branch there; maf needs {branch}",
                )
            self._make(path, f"ref: refs/heads/{branch}", self.tip(branch), lock)
        return self.tip(branch)

    def checkout_detached(self, path: Path, commit: str, *, keep_ignored: bool = False) -> None:
        """Make ``path`` a worktree that holds exactly the tree of ``commit``, detached, and nothing else.

        An existing one is reused, whatever was changed, added, half merged or cut off in it; ``keep_ignored`` leaves
        ignored files (caches, installed dependencies) in place. GuardFailed when ``path`` is a worktree on a branch
        (there may be work in it) or something that is no worktree of this repository.
        """
        full_sha(commit)
        with self._alone(path) as lock:
            git_dir = self._repaired(path)
            if git_dir is not None:
                if branch_of(git_dir) is not None:
                    raise GuardFailed(
                        f"{path} is on branch {branch_of(git_dir)}: no place for checks", hint="name another folder"
                    )
                break_stale_locks(git_dir, 0.0)  # checks alone ran here, and they have ended
                try:
                    self.git.run("checkout", "-q", "-f", "--detach", commit, "--", cwd=path, keep=(lock,))
                    self.git.run("clean", "-ffdq" if keep_ignored else "-ffdxq", cwd=path, keep=(lock,))
                    return
                except GitUnavailable:
                    raise
                except MafError:  # such as folders without write permission: start over
                    self._discard(path, git_dir)
            self.commit(commit)
            self._make(path, commit, commit, lock)

    def _make(self, path: Path, head: str, commit: str, lock: int) -> None:
        """What ``git worktree add`` does, in one process instead of four: the files of gitrepository-layout(5).

        As git does, the registration says "initializing" until the checkout is complete. A repository with settings
        per worktree or a sparse checkout is left to git itself, which knows how they carry over.
        """
        if any((self.common_dir / file).exists() for file in ("config.worktree", "info/sparse-checkout")):
            branch = head.removeprefix("ref: refs/heads/")
            where = ["--detach", "--", str(path), commit] if branch == head else ["--", str(path), branch]
            self.git.run("worktree", "add", "-q", *where, keep=(lock,))
            return
        path = Path(os.path.realpath(path))
        if "\n" in str(path):
            raise InvalidInput(f"{str(path)!r} cannot hold a worktree", hint="use a path without line breaks")
        try:
            admin = self._new_registration(path.name)
            (admin / "gitdir").write_bytes(os.fsencode(path / ".git") + b"\n")
            (admin / "commondir").write_text("../..\n")
            (admin / "HEAD").write_text(head + "\n")
            path.mkdir(parents=True, exist_ok=True)
            (path / ".git").write_bytes(b"gitdir: " + os.fsencode(admin) + b"\n")
        except OSError as error:
            raise GitUnavailable(
                f"{path} cannot be made: {error.strerror}", hint="check the disk and who may write there"
            ) from error
        self.git.run("read-tree", "--reset", "-u", commit, cwd=path, keep=(lock,))
        (admin / "locked").unlink()

    def _new_registration(self, name: str) -> Path:
        """A folder of our own under ``worktrees/``, locked from its first moment for ``git worktree prune``."""
        home = self.common_dir / "worktrees"
        plain = re.sub(r"[^A-Za-z0-9._-]|^[.-]|\.lock$|\.$|\.\.", "-", name)
        for number in itertools.count():
            admin = home / (f"{plain}{number}" if number else plain)
            try:
                admin.mkdir(parents=True)
            except FileExistsError:
                continue
            (admin / "locked").write_text("initializing")
            return admin
        raise AssertionError("count() ends never")

    def remove_worktree(self, path: Path, *, target: str, archive_as: str | None = None) -> Salvaged | None:
        """Remove a worktree, its branch stays. Gone already is fine.

        GuardFailed while it has uncommitted changes, or commits neither on ``target`` nor under ``refs/maf/``; with
        ``archive_as`` all its work is salvaged under that name first (and what was pinned is returned).
        """
        with self._alone(path):
            git_dir = self._repaired(path)
            if git_dir is None:
                return None
            salvaged = None
            if archive_as is not None:
                salvaged = self.salvage(path, archive_as)
            else:
                self._require_kept(path, git_dir, target)
            self._discard(path, git_dir)
            return salvaged

    def _require_kept(self, path: Path, git_dir: Path, target: str) -> None:
        hint = f"commit and merge it, or archive it first: git -C {path} status"
        if not self.is_clean(path):
            raise GuardFailed(f"{path} has uncommitted changes", hint=hint, path=os.fspath(path))
        head = self._head(git_dir)
        if head and not self.is_kept(head, target):
            raise GuardFailed(
                f"{path} has commits that are not on {target}", hint=hint, path=os.fspath(path), head=head
            )

    def refresh_branch(self, path: Path, target_tip: str, *, name: str, message: str | None = None) -> Refreshed:
        """Bring a story's branch onto the target's tip, in its worktree, with its work kept.

        Uncommitted work of an earlier attempt is archived under ``name`` and becomes a commit of the branch; a merge
        or rebase that was cut off is archived and undone. Then the tip is merged. A conflict is left in the
        worktree, started and marked, for the next attempt to resolve and commit; asking again changes nothing.
        """
        full_sha(target_tip)
        git_dir = self._git_dir(path)
        branch = branch_of(git_dir)
        if branch is None or git_dir == self.common_dir:
            raise GuardFailed(f"{path} is not on a story's branch", hint="make its worktree anew first")
        with self._alone(path) as lock:
            break_stale_locks(git_dir)
            status, doing, salvaged = self.status(path), operation(git_dir), None
            before = self.tip(branch)
            if doing == "merge" and read_git_file(git_dir / "MERGE_HEAD") == target_tip:
                return Refreshed("conflict", before, status.unmerged)
            if doing or status.unmerged:
                salvaged = self.salvage(path, name)
                self.git.run("reset", "-q", "--hard", cwd=path, keep=(lock,))
                self.git.run("clean", "-ffdq", cwd=path, keep=(lock,))
                for state in ("rebase-merge", "rebase-apply"):
                    shutil.rmtree(git_dir / state, ignore_errors=True)
            elif not status.clean:
                salvaged = self.salvage(path, name)
                before = full_sha(salvaged.dirty or before)
                self.git.run("reset", "-q", before, cwd=path, keep=(lock,))
            text = message or f"Merge the target's tip {target_tip[:12]} into {branch}"
            done = self.git.run(
                *("merge", "-q", "--ff", "--commit", "--no-squash", "--no-edit", "--no-verify-signatures"),
                *("--no-verify", "--no-autostash", "-m", text, target_tip),
                cwd=path, env=identity(*IDENTITY), ok=(0, 1), keep=(lock,),
            )  # fmt: skip
            after = self.tip(branch)
            if done.code == 1:
                unmerged = self.status(path).unmerged
                if not unmerged:
                    raise GitFailed(f"git merge in {path}: {done.err.strip()[-300:]}", hint=f"git -C {path} status")
                return Refreshed("conflict", after, unmerged, salvaged)
            if after == before:
                return Refreshed("unchanged", after, (), salvaged)
            return Refreshed("fast_forward" if after == target_tip else "merged", after, (), salvaged)

    def _repaired(self, path: Path) -> Path | None:
        """The git directory of a healthy worktree at ``path``; None when the place is free (leftovers cleared).

        GuardFailed when something else stands there.
        """
        git_dir = self.git_dir(path)
        if git_dir == self.common_dir:
            raise GuardFailed(f"{path} is the user's main checkout", hint="name another folder for maf's worktrees")
        if git_dir is not None:
            if _healthy(git_dir):
                return git_dir
            self._discard(path, git_dir)
            return None
        registered = self._registered(path)
        occupied = os.path.lexists(path) and not (path.is_dir() and not any(path.iterdir()))
        if occupied and not path.is_dir():
            raise GuardFailed(f"{path} is a file", hint="move it away: maf needs that place for a worktree")
        if registered and occupied and _healthy(registered[0]) and not (path / ".git").is_dir():
            (path / ".git").unlink(missing_ok=True)  # it points nowhere: link it again, all the work is still there
            (path / ".git").write_bytes(b"gitdir: " + os.fsencode(registered[0]) + b"\n")
            return registered[0]
        if occupied and not registered:
            pointer = read_git_file(path / ".git").removeprefix("gitdir: ")
            ours = os.path.realpath(Path(pointer).parent) == os.path.realpath(self.common_dir / "worktrees")
            if not pointer or not ours:
                raise GuardFailed(f"{path} is in the way: no worktree of {self.root}", hint="move it away")
            path.rename(_free_name(path))  # its registration was pruned; what is in it is kept beside
        elif occupied and (path / ".git").is_dir():
            path.rename(_free_name(path))  # somebody made a repository of its own there
        for admin in registered:
            self._discard(path, admin)
        return None

    def _registered(self, path: Path) -> list[Path]:
        """The registrations that name ``path``, whatever their state; those that never got one are swept."""
        wanted = os.path.realpath(path)
        found = []
        for admin in (self.common_dir / "worktrees").glob("*"):
            pointer = read_git_file(admin / "gitdir")
            if not pointer and _abandoned(admin):
                _remove_tree(admin)
            if pointer and os.path.realpath((admin / pointer).parent) == wanted:
                found.append(admin)
        return sorted(found, key=_healthy, reverse=True)

    def _discard(self, path: Path, git_dir: Path) -> None:
        """Throw a worktree away, in an order that can be carried on: mark, files, registration."""
        if git_dir.is_dir():
            (git_dir / _REMOVING).touch()
        _remove_tree(path)
        _remove_tree(git_dir)


def _healthy(git_dir: Path) -> bool:
    if (git_dir / _REMOVING).exists() or not (git_dir / "HEAD").exists() or not (git_dir / "index").exists():
        return False
    return read_git_file(git_dir / "locked") != "initializing"


def _abandoned(git_dir: Path) -> bool:
    """A registration that was killed before it named its place; git leaves it for it is locked."""
    try:
        return time.time() - (git_dir / "locked").stat().st_mtime > 60
    except OSError:
        return False


def _free_name(path: Path) -> Path:
    number = 1
    while os.path.lexists(found := path.with_name(f"{path.name}.left-{number}")):
        number += 1
    return found


def _remove_tree(path: Path) -> None:
    """Remove a folder; copes with folders without write permission and with files that still appear."""
    for attempt in range(4):
        try:
            shutil.rmtree(path)
            return
        except FileNotFoundError:
            if not os.path.lexists(path):
                return
        except OSError as error:
            if attempt == 3:
                raise GitUnavailable(
                    f"{path} cannot be removed: {error.strerror}", hint="remove it by hand, then run the same again"
                ) from error
            for folder, _, _ in os.walk(path):
                Path(folder).chmod(stat.S_IRWXU)
            time.sleep(0.05 * attempt)
