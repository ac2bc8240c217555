"""What a branch brings: its own commits, the files it changes, the merge that took it in."""

from __future__ import annotations

from orchestrator.domain.errors import GuardFailed, NotFound
from orchestrator.git.errors import GitFailed
from orchestrator.git.models import SYMLINK, Change
from orchestrator.git.refs import Refs, full_sha

_WALK = 64  # commits looked at one by one before git is asked for a list


class History(Refs):
    """Questions about commits that already exist. Nothing here writes."""

    def merge_base(self, a: str, b: str) -> str:
        """The best common ancestor; GuardFailed when the two share no history."""
        first, second = self.commit(a).sha, self.commit(b).sha
        found = self.git.run("merge-base", first, second, ok=(0, 1)).text
        if not found:
            raise GuardFailed(
                f"{a} and {b} share no history", hint="in a shallow clone: git fetch --unshallow; else rebase by hand"
            )
        return found

    def own_commits(self, branch: str, target: str) -> list[str]:
        """The branch's own commits, oldest first: on its first-parent line, not on the target, no merges.

        ``target`` may be any commit; where it lies on that line (the commit the story started from) no process
        is needed.
        """
        tip, base = self.commit(branch), self.commit(target).sha
        own: list[str] = []
        here = tip
        for _ in range(_WALK):
            if here.sha == base:
                return own[::-1]
            if len(here.parents) == 1:
                own.append(here.sha)
            if not here.parents:
                break
            here = self.commit(here.parents[0])
        return self.git.run("rev-list", "--first-parent", "--no-merges", "--reverse", tip.sha, f"^{base}").text.split()

    def changed_files(self, base: str, head: str, *, from_merge_base: bool = False) -> list[Change]:
        """The files that differ between two commits, in git's order; renames carry both paths.

        With ``from_merge_base`` the base is where the two parted: what ``head`` brings, not what it lacks.
        """
        shas = [self.commit(base).sha, self.commit(head).sha]
        args = ["diff-tree", "-r", "-z", "--raw", "-M", "--no-abbrev"]
        try:
            out = self.git.run(*args, *(["--merge-base"] if from_merge_base else []), *shas)
        except GitFailed:
            if not from_merge_base:
                raise
            # several merge bases (criss-cross), or none: merge_base takes the best, or says so
            out = self.git.run(*args, self.merge_base(*shas), shas[1])
        return self._changes(out.fields)

    def _changes(self, fields: list[str]) -> list[Change]:
        changes = []
        rest = iter(fields)
        for head in rest:  # ":100644 100755 OLD NEW R087" NUL path NUL [new path NUL]
            old_mode, new_mode, _, new_sha, status = head[1:].split(" ")
            path, old_path = next(rest), None
            if status[0] in "RC":
                old_path, path = path, next(rest)
            link = self._link_target(new_sha) if new_mode == SYMLINK else None
            changes.append(Change(path, status[0], old_path, old_mode, new_mode, link))
        return changes

    def _link_target(self, blob: str) -> str | None:
        found = self.objects.read(blob)
        return found[2].decode("utf-8", "surrogateescape") if found else None

    def find_merge(self, target: str, submitted: str, *, since: str | None = None) -> str | None:
        """The commit of the target's first-parent line that brought ``submitted`` in, or None if it is not there.

        For a merge of maf's own that is the merge commit with ``submitted`` as its second parent; it is how a
        crash between moving the target and recording it is recognised. ``since`` is a commit of the target known
        to be older than the merge (the tip it was integrated with): then mostly no process is needed.
        """
        tip = self.commit(target)
        submitted = full_sha(submitted)
        if self.objects.commit(submitted) is None:
            raise NotFound(f"there is no commit {submitted}", hint="`maf doctor` checks what the store knows of git")
        here = tip
        for _ in range(_WALK):
            if submitted in here.parents[1:]:
                return here.sha
            if here.sha == since or not here.parents:
                break
            here = self.commit(here.parents[0])
        if since is not None and here.sha == since:
            return None
        return self._search_merge(tip.sha, submitted)

    def _search_merge(self, tip: str, submitted: str) -> str | None:
        out = self.git.run("rev-list", "--first-parent", "--parents", tip, f"^{submitted}").text
        line = [entry.split() for entry in out.splitlines()]
        for sha, *parents in line:
            if submitted in parents[1:]:
                return sha
        if not self.is_ancestor(submitted, tip):
            return None
        if not line or submitted in line[-1][1:2]:
            return submitted  # fast-forwarded by hand: it stands on the line itself
        newest, oldest = 0, len(line) - 1  # brought in with something else: the oldest commit that has it
        while newest < oldest:
            middle = (newest + oldest + 1) // 2
            if self.is_ancestor(submitted, line[middle][0]):
                newest = middle
            else:
                oldest = middle - 1
        return line[newest][0]
