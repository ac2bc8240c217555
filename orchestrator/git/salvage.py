"""Recording all the work of a worktree without touching it, its index or its branch.

Uncommitted work goes into a commit made with a copy of the index; kill -9 at any point leaves at worst an
unreferenced object and a stray temporary file, and running it again ends with the same refs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.domain.errors import NotFound, TimedOut
from orchestrator.git.command import IDENTITY, identity
from orchestrator.git.merging import Merging
from orchestrator.git.models import Salvaged, Status
from orchestrator.git.refs import branch_of, full_sha, read_git_file

LOCK_WAIT = 120.0  # seconds for another maf process, or a git that outlived one, to be done with a worktree


class Salvage(Merging):
    """Worktrees as they are: where their git directory is, what is uncommitted in them, how to keep it."""

    def git_dir(self, path: Path) -> Path | None:
        """The git directory of a worktree of this repository; None when ``path`` is none."""
        dot_git = path / ".git"
        if dot_git.is_dir():
            return self.common_dir if dot_git.samefile(self.common_dir) else None
        pointer = read_git_file(dot_git)
        if not pointer.startswith("gitdir: "):
            return None
        found = Path(os.path.normpath(path / pointer.removeprefix("gitdir: ")))
        if found.parent.name != "worktrees" or not found.is_dir():
            return self.common_dir if found == self.common_dir else None
        same = os.path.realpath(found.parent.parent) == os.path.realpath(self.common_dir)
        back = os.path.normpath(found / read_git_file(found / "gitdir"))
        return found if same and os.path.realpath(back) == os.path.realpath(dot_git) else None

    def _git_dir(self, path: Path) -> Path:
        found = self.git_dir(path)
        if found is None:
            raise NotFound(f"{path} is no worktree of {self.root}", hint="`git worktree list` shows them")
        return found

    def checkouts(self, branch: str) -> list[tuple[Path, Path]]:
        """(worktree, git directory) of each checkout of a branch, the main one first."""
        found = [(self.root, self.common_dir)] if branch_of(self.common_dir) == branch else []
        for admin in sorted((self.common_dir / "worktrees").glob("*")):
            if branch_of(admin) == branch:
                path = Path(os.path.normpath(admin / read_git_file(admin / "gitdir"))).parent
                if self.git_dir(path) == admin:
                    found.append((path, admin))
        return found

    def head(self, path: Path) -> str:
        """The commit a worktree stands at; NotFound when it has none yet."""
        found = self._head(self._git_dir(path))
        if found is None:
            raise NotFound(f"{path} has no commit yet", hint="commit something there first")
        return found

    def _head(self, git_dir: Path) -> str | None:
        name = "main-worktree" if git_dir == self.common_dir else f"worktrees/{git_dir.name}"
        return self.objects.sha(f"{name}/HEAD")

    def is_clean(self, path: Path) -> bool:
        """No change to a tracked file, no untracked file that is not ignored, no merge or rebase half done."""
        return operation(self._git_dir(path)) is None and self.status(path).clean

    def status(self, path: Path) -> Status:
        """The uncommitted work of a worktree; untracked files one by one, a repository inside as ``dir/``."""
        out = self.git.run("status", "--porcelain=v2", "-z", "--no-renames", "--untracked-files=all", cwd=path)
        changed, unmerged, untracked = [], [], []
        both = False
        for entry in out.fields:
            if entry.startswith("1 "):
                changed.append(entry.split(" ", 8)[8])
                both = both or "." not in entry[2:4]
            elif entry.startswith("u "):
                unmerged.append(entry.split(" ", 10)[10])
            elif entry.startswith("? "):
                untracked.append(entry[2:])
        return Status(tuple(changed), tuple(unmerged), tuple(untracked), both)

    def salvage(self, path: Path, name: str) -> Salvaged:
        """Pin all the work of a worktree under ``refs/maf/archive/NAME/``.

        Its HEAD commit, and if anything is uncommitted (tracked or not, merged or not, staged and changed again)
        a commit of that on top. Ignored files are not work. Detached, unborn, locked or mid-merge: all the same.
        """
        git_dir = self._git_dir(path)
        head = self._head(git_dir)
        status = self.status(path)
        dirty: str | None = None
        skipped: list[str] = []
        if not status.clean:
            with self._scratch() as scratch:
                dirty, skipped = self._commit_dirty(path, git_dir, head, status, scratch / "index")
        pins = {self.archive_ref(name, sha, suffix): sha for sha, suffix in ((head, ""), (dirty, "-dirty")) if sha}
        missing = {ref: sha for ref, sha in pins.items() if self.objects.sha(ref) != sha}
        if missing:
            lines = "".join(f"update {ref} {sha}\n" for ref, sha in missing.items())
            self.git.run("update-ref", "--stdin", stdin=lines.encode())
        return Salvaged(head, dirty, tuple(pins), tuple(skipped))

    def _commit_dirty(
        self, path: Path, git_dir: Path, head: str | None, status: Status, index: Path
    ) -> tuple[str, list[str]]:
        env = {"GIT_INDEX_FILE": str(index)}
        when = f"@{_last_touched(path, status)} +0000"  # so that the same state gives the same commit
        who = identity(*IDENTITY, when)
        parents = [head] if head else []
        parents += [sha for sha in read_git_file(git_dir / "MERGE_HEAD").split() if sha != head]
        try:
            shutil.copyfile(git_dir / "index", index)
        except FileNotFoundError:
            if head:
                self.git.run("read-tree", full_sha(head), env=env, cwd=path)
        if status.staged_and_changed and not status.unmerged:  # the staged version is in no file any more
            staged = self.git.run("write-tree", env=env, cwd=path).text
            parents.append(self._commit(staged, parents, "maf: what was staged", who))
        if status.changed or status.unmerged:
            self.git.run("add", "-u", env=env, cwd=path)
        files, skipped = _readable(path, status.untracked)
        if files:
            listed = b"\0".join(os.fsencode(file) for file in files) + b"\0"
            self.git.run("update-index", "--add", "--remove", "-z", "--stdin", stdin=listed, env=env, cwd=path)
        tree = self.git.run("write-tree", env=env, cwd=path).text
        return self._commit(tree, parents, "maf: uncommitted work, as it was found", who), skipped

    def _commit(self, tree: str, parents: list[str], message: str, who: dict[str, str]) -> str:
        args = [part for parent in parents for part in ("-p", full_sha(parent))]
        return self.git.run("commit-tree", full_sha(tree), *args, "-m", message, env=who).text

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A private folder in the git directory; those of killed processes are swept after a day."""
        home = self.common_dir / "maf"
        home.mkdir(exist_ok=True)
        for old in home.glob("scratch-*"):
            if _age(old) > 86400:
                shutil.rmtree(old, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=home))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    @contextmanager
    def _alone(self, path: Path) -> Iterator[int]:
        """Only one maf at a time works on a worktree.

        The lock's descriptor is yielded for the git processes to inherit: one that outlives a killed maf keeps
        the lock until it is done, so whoever has it knows that half-made things are abandoned.
        """
        locks = self.common_dir / "maf" / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        # 256 files at most, rather than one for each worktree there ever was
        name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:2]
        descriptor = os.open(locks / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            deadline = time.monotonic() + LOCK_WAIT
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise TimedOut(
                            f"another maf process is working on {path}", hint="wait for it, or end it"
                        ) from None
                    time.sleep(0.02)
            yield descriptor
        finally:
            os.close(descriptor)


def operation(git_dir: Path) -> str | None:
    """The command that is half done in a worktree (merge, rebase, ...), or None."""
    for file, name in (
        ("MERGE_HEAD", "merge"),
        ("rebase-merge", "rebase"),
        ("rebase-apply", "rebase or am"),
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
    ):
        if (git_dir / file).exists():
            return name
    return None


def break_stale_locks(git_dir: Path, patience: float = 2.0) -> None:
    """Remove the index and HEAD locks that a killed git left in a worktree of maf's; a live one's are waited for."""
    for name in ("index.lock", "HEAD.lock"):
        lock = git_dir / name
        while _age(lock) < patience:
            time.sleep(0.05)
        lock.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since a file was written; infinitely old when it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _last_touched(path: Path, status: Status) -> int:
    newest = 0.0
    for file in (*status.changed, *status.unmerged, *status.untracked):
        try:
            newest = max(newest, (path / file).lstat().st_mtime)
        except OSError:
            continue
    return int(newest) if newest > 0 else int(time.time()) // 86400 * 86400


def _readable(path: Path, untracked: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The untracked files to record, and those that cannot be; a repository inside is recorded file by file."""
    files: list[str] = []
    for entry in untracked:
        if not entry.endswith("/"):
            files.append(entry)
            continue
        for folder, folders, names in os.walk(path / entry):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            folders[:] = [name for name in folders if name not in links and name.casefold() != ".git"]
            inside = Path(folder).relative_to(path)
            files.extend(str(inside / name) for name in (*names, *links) if name.casefold() != ".git")
    kept = [f for f in files if (path / f).is_symlink() or ((path / f).is_file() and os.access(path / f, os.R_OK))]
    return kept, sorted(set(files) - set(kept))
