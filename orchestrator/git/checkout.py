"""The user's own checkouts of the branch that maf moves.

maf moves the target by ``update-ref``; a checkout of it then still *shows* the old commit: its HEAD names the new one,
its index and files are the old. That is brought right at once where the checkout is clean. Where it is not, it is left
alone, and what it shows is remembered as ``refs/maf/left-behind/BRANCH``: to git, everything merged since looks like a
staged reversal there, so a ``git commit -a`` would undo merged work. The user is told so, and how to catch up.

No journal is needed for a crash between the two steps: the reflog's last entry says that maf moved the branch and from
where, and the index itself tells which commit it shows. An update that was cut off half-way is recognised by every
file being either as before or as after, and finished.
"""

from __future__ import annotations

import os
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

from orchestrator.git.command import last_line
from orchestrator.git.errors import GitFailed
from orchestrator.git.models import CheckoutUpdate
from orchestrator.git.refs import REFLOG, full_sha, ref_name
from orchestrator.git.salvage import Salvage, operation

LEFT_BEHIND = "refs/maf/left-behind"


class Checkouts(Salvage):
    """Keeping up the checkouts, in the main and in linked worktrees, that have the target branch."""

    def update_checkout(self, branch: str, old: str, new: str) -> CheckoutUpdate:
        """Bring the checkouts of ``branch`` from ``old`` to ``new``, after the branch was moved so.

        Only those without changes to tracked files and without a merge or rebase half done; an untracked file in the
        way is a reason to leave it too. Never raises for a checkout that cannot follow: it is ``left``.
        """
        ref = ref_name(LEFT_BEHIND, branch)
        found = self.checkouts(branch)
        if not found:
            return CheckoutUpdate("not_on_branch", self.root)
        remembered = self.objects.sha(ref)
        shown = [full_sha(old), *([remembered] if remembered and remembered != old else [])]
        results = [self._update(path, git_dir, branch, shown, full_sha(new)) for path, git_dir in found]
        if remembered and all(result.kind != "left" for result in results):
            self.git.run("update-ref", "-d", ref)
        return replace(results[0], others=tuple(results[1:]))

    def reconcile_checkout(self, branch: str) -> CheckoutUpdate:
        """Finish what a crash, or a dirty checkout, left: for the start of a runner, and to catch up by hand.

        A checkout whose index shows what the branch was before maf moved it follows; all others are not touched.
        """
        found, ref = self.checkouts(branch), ref_name(LEFT_BEHIND, branch)
        tip = self.find_tip(branch)
        if not found or tip is None:
            return CheckoutUpdate("not_on_branch", self.root)
        remembered = self.objects.sha(ref)
        before = self._before_last_move(branch)
        candidates = [sha for sha in dict.fromkeys((before, remembered)) if sha and sha != tip]
        results = []
        for path, git_dir in found:
            shown = self._shown(path, [tip, *candidates]) if candidates else tip
            if shown == tip:
                results.append(CheckoutUpdate("none", path))
            else:
                results.append(self._update(path, git_dir, branch, [shown], tip))
        if remembered and all(result.kind != "left" for result in results):
            self.git.run("update-ref", "-d", ref)
        return replace(results[0], others=tuple(results[1:]))

    def left_behind(self, branch: str) -> list[tuple[Path, str]]:
        """The checkouts of ``branch`` that still show the commit that was remembered, and that commit."""
        base, tip = self.objects.sha(ref_name(LEFT_BEHIND, branch)), self.find_tip(branch)
        if base is None or tip is None or base == tip:
            return []
        return [(path, base) for path, _ in self.checkouts(branch) if self._shown(path, [tip, base]) == base]

    def _before_last_move(self, branch: str) -> str | None:
        """Where the branch was, if its last move was maf's."""
        log = self.common_dir / "logs" / "refs" / "heads" / branch
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - 4096))
                last = file.read().splitlines()[-1]
        except (OSError, IndexError):
            return None
        about, _, message = last.partition(b"\t")
        return about.split(b" ", 1)[0].decode("ascii", "replace") if message.startswith(REFLOG.encode()) else None

    def _shown(self, path: Path, candidates: list[str]) -> str:
        """The commit that a checkout's index shows: the one it equals, else (something is staged) the closest."""
        distances = []
        for commit in candidates:
            out = self.git.run("diff-index", "--cached", "--name-only", "-z", commit, "--", cwd=path).out
            if not out:
                return commit
            distances.append((out.count(b"\0"), commit))
        return min(distances, key=lambda pair: pair[0])[1]

    def _update(self, path: Path, git_dir: Path, branch: str, shown: list[str], new: str) -> CheckoutUpdate:
        doing = operation(git_dir)
        if doing:
            return self._leave(path, git_dir, branch, shown, new, f"a {doing} is half done")
        if (git_dir / "index.lock").exists():
            return self._leave(path, git_dir, branch, shown, new, "a git command is at work there (index.lock)")
        for base in shown:
            if self._is_clean_at(path, base):
                problem = self._follow(path, base, new)
                if problem is None:
                    return CheckoutUpdate("updated", path)
                return self._leave(path, git_dir, branch, [base], new, problem)
        base = shown[0] if len(shown) == 1 else self._shown(path, [*shown, new])
        if base == new:
            return CheckoutUpdate("none", path)  # the user has caught up already, and has gone on working
        if self._was_cut_off(path, git_dir, base, new):
            self.git.run("read-tree", "--reset", "-u", new, cwd=path)
            return CheckoutUpdate("updated", path, "an update that was cut off is finished")
        return self._leave(path, git_dir, branch, [base], new, "it has uncommitted changes")

    def _is_clean_at(self, path: Path, base: str) -> bool:
        args = ("diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--quiet", base, "--")
        return self.git.run(*args, cwd=path, ok=(0, 1)).code == 0

    def _follow(self, path: Path, base: str, new: str) -> str | None:
        """Index and files from one commit to another; git's reason when it refuses (then nothing has changed)."""
        try:
            for attempt in range(2):
                done = self.git.run("read-tree", "-m", "-u", base, new, cwd=path, ok=(0, 128))
                if done.code == 0:
                    return None
                if attempt or "not uptodate" not in done.err:
                    return last_line(done.err)
                self.git.run("update-index", "-q", "--refresh", cwd=path, ok=(0, 1))  # touched, but the same
        except GitFailed as error:
            return error.message
        return None

    def _was_cut_off(self, path: Path, git_dir: Path, base: str, new: str) -> bool:
        """Whether the index is ``base`` and every file is as in ``base`` or as in ``new``: nothing is the user's."""
        if self.git.run("diff-index", "--cached", "--quiet", base, "--", cwd=path, ok=(0, 1)).code:
            return False
        changed = {change.path: change for change in self.changed_files(base, new) if change.old_path is None}
        touched = {p for change in self.changed_files(base, new) for p in change.touched}
        with self._scratch() as scratch:
            env = {"GIT_INDEX_FILE": str(scratch / "new")}
            self.git.run("read-tree", new, env=env, cwd=path)
            not_new = self._differs(path, env)
            shutil.copyfile(git_dir / "index", scratch / "old")
            not_old = self._differs(path, {"GIT_INDEX_FILE": str(scratch / "old")})
        if not_new & not_old or not not_old <= touched:
            return False
        # a file that `new` adds and that is there with other content is an untracked one of the user's
        added = {p for p, change in changed.items() if change.status == "A"}
        return not any(os.path.lexists(path / p) for p in (not_new & added))

    def _differs(self, path: Path, env: dict[str, str]) -> set[str]:
        """The tracked files that differ from an index."""
        self.git.run("update-index", "-q", "--refresh", env=env, cwd=path, ok=(0, 1))
        args = ("diff-files", "--name-only", "-z", "--ignore-submodules=dirty")
        return set(self.git.run(*args, env=env, cwd=path).fields)

    def _leave(self, path: Path, git_dir: Path, branch: str, shown: list[str], new: str, reason: str) -> CheckoutUpdate:
        """Remember what the checkout shows, and say how to catch up."""
        base = shown[0] if len(shown) == 1 else self._shown(path, shown)
        ref = ref_name(LEFT_BEHIND, branch)
        if self.objects.sha(ref) != base:
            self.git.run("update-ref", ref, base)
        git = f"git -C {shlex.quote(os.fspath(path))}"
        rehearsal = self.git.run("read-tree", "-n", "-m", "-u", base, new, cwd=path, ok=(0, 1, 128))
        if rehearsal.code == 0 and operation(git_dir) is None:
            how = f"{git} read-tree -m -u {ref} HEAD    (your changes stay as they are)"
        elif "ntracked" in rehearsal.err:
            how = f"move the file away ({last_line(rehearsal.err)}), then: {git} read-tree -m -u {ref} HEAD"
        else:
            how = (
                f"{git} update-ref --no-deref HEAD {ref} && {git} stash && "
                f"{git} checkout {shlex.quote(branch)} && {git} stash pop    (both sides changed the same files)"
            )
            if operation(git_dir):
                how = f"finish or abort what is half done, and then: {git} read-tree -m -u {ref} HEAD"
        hint = (
            f"Do not commit there before it has caught up: it still shows {base[:12]}, and `git commit -a` would undo "
            f"what was merged since. To catch up: {how}. "
            "Once its changes are gone, the next merge or `maf run` does it."
        )
        return CheckoutUpdate("left", path, reason, hint)
