"""The repository that a replay builds: set up with the first release, driven by maf, and held against the last one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import agent
import plan
from releases import File, Release, ReplayError, describe, differing, digest, put

if TYPE_CHECKING:
    from suite import Suite

TARGET = "main"
RUN_TIMEOUT_S = 3600
AGENT = Path(agent.__file__).resolve()

# Every byte as it was released: no line endings changed, no keywords expanded, nothing ignored, nobody's own settings.
SETTINGS = {
    "user.name": "replay",
    "user.email": "replay@localhost",
    "core.autocrlf": "false",
    "core.safecrlf": "false",
    "commit.gpgsign": "false",
    "gc.auto": "0",
}
ATTRIBUTES = "* -text -filter -ident !working-tree-encoding !merge\n"
EXCLUDED = "/maf.toml\n/.maf/\n__pycache__/\n"


class Project:
    """One replay's repository, in ``home``, with what it is driven by beside it."""

    def __init__(self, home: Path, suite: Suite, first: Release) -> None:
        self.home, self.suite, self.first = home, suite, first
        self.repository = home / "repository"
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MAF_", "PYTEST_"))
        }
        self.maf = [str(Path(sys.executable).parent / "maf")]

    def create(self) -> None:
        """An empty repository with the first release as its first commit; what an earlier replay left is removed."""
        self.remove()
        self.repository.mkdir(parents=True)
        self.git("init", "--quiet", f"--initial-branch={TARGET}")
        for name, value in SETTINGS.items():
            self.git("config", name, value)
        information = self.repository / ".git" / "info"
        information.mkdir(exist_ok=True)
        (information / "attributes").write_text(ATTRIBUTES, "utf-8")
        (information / "exclude").write_text(EXCLUDED, "utf-8")
        put(self.first.files, self.first.folder, self.repository)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "-m", str(self.first))
        if self.tree(TARGET) != self.first.files:
            raise ReplayError(f"git does not hold {self.first} as it was released.")

    def remove(self) -> None:
        """Delete the repository and everything beside it."""
        shutil.rmtree(self.home, ignore_errors=True)

    def run(self, waves: Sequence[plan.Wave], store: str | None, agents: int) -> None:
        """Import the plan and let maf drive it to its end."""
        manifest = self.home / "manifest.json"
        plan.write_manifest(waves, self.maf, manifest)
        plan.write_plan(waves, self.home / "plan.yaml")
        url = store or "sqlite:///.maf/maf.db"
        (self.repository / "maf.toml").write_text(self._configuration(waves, url, manifest, agents), "utf-8")
        self.call("init")
        self.call("plan", "import", str(self.home / "plan.yaml"))
        self.call("run", "--until", "done", quiet=False)
        shown = self.call("plan", "show", "--json")
        unfinished = [
            f"{story['code']} is {story['status']}"
            for story in json.loads(shown)["data"]["stories"]
            if story["status"] != "completed"
        ]
        if unfinished:
            raise ReplayError(f"{len(unfinished)} stories did not end: {'; '.join(unfinished[:5])}.")
        self.call("doctor")

    def _configuration(self, waves: Sequence[plan.Wave], url: str, manifest: Path, agents: int) -> str:
        """The text of maf.toml: the suite as the check, each domain confined to the files of its own stories."""
        quoted = json.dumps  # a JSON string or list of strings is TOML as well
        roles = "".join(f'[roles.{role}]\nmode = "auto"\n' for role in ("pm", "qa", "cto"))
        owned: dict[str, set[str]] = {}
        for story in (story for wave in waves for story in wave.stories):
            owned.setdefault(story.domain, set()).update("/" + re.sub(r"[*?[]", r"[\g<0>]", p) for p in story.paths)
        domains = "".join(f"[domains.{name}]\nowns = {quoted(sorted(paths))}\n" for name, paths in owned.items())
        command = quoted([sys.executable, str(AGENT), str(manifest)])
        return (
            f"[project]\ntarget = {quoted(TARGET)}\n[store]\nurl = {quoted(url)}\n"
            f"[checks]\ntimeout = 300\ncommands = [{quoted(self.suite.command)}]\n{domains}{roles}"
            f"[run]\nagents = {agents}\nmax_attempts = 3\n"
            f'[[agents]]\nid = "dev"\ncommand = {command}\nprompt = "none"\n'
        )

    def simulate(self, waves: Sequence[plan.Wave]) -> None:
        """The same branches, worktrees, checks and merges without maf, one story after another: the floor."""
        manifest = self.home / "manifest.json"
        plan.write_manifest(waves, self.maf, manifest)
        stories = json.loads(manifest.read_text("utf-8"))["stories"]
        for wave in waves:
            for story in wave.stories:
                worktree = self.home / "worktrees" / story.code
                self.git("worktree", "add", "--quiet", "-b", f"feature/{story.code}", str(worktree), TARGET)
                agent.apply(stories[story.code], worktree)
                self._check(worktree, f"{story.code} in its worktree")
                message = f"Merge {story.code}: {story.title}"
                self.git("merge", "--quiet", "--no-ff", "-m", message, f"feature/{story.code}")
                self._check(self.repository, f"{story.code} after its merge")
                self.git("worktree", "remove", "--force", str(worktree))

    def _check(self, tree: Path, what: str) -> None:
        outcome = self.suite.run(tree)
        if not outcome.passed:
            raise ReplayError(f"the suite does not pass: {what}\n{outcome.output[-2000:]}")

    def verify(self, waves: Sequence[plan.Wave], collected: Sequence[int]) -> list[int]:
        """The number of tests at the end of each wave. Raises ReplayError for the first thing that is wrong.

        Every story is merged exactly once, wave after wave, in an order that its dependencies allow; the target's tree
        after each wave's last merge is that wave's release; and the suite, run afresh there, passes and collects at
        least as many tests as in the release itself.
        """
        self._same(TARGET, waves[-1].release)
        merges = self._merges([story.code for wave in waves for story in wave.stories])
        tests = []
        for wave, own in zip(waves, collected[1:], strict=True):
            expected = {story.code: story for story in wave.stories}
            done: set[str] = set()
            last = merges[len(expected) - 1][1]
            for code, _ in merges[: len(expected)]:
                if code not in expected or not set(expected[code].after) <= done:
                    raise ReplayError(f"{code} was merged before its turn, in the place of a story of {wave.code}.")
                done.add(code)
            del merges[: len(expected)]
            self._same(last, wave.release)
            tests.append(self._afresh(last, wave, own))
        return tests

    def _merges(self, codes: Sequence[str]) -> list[tuple[str, str]]:
        """Each merge on the target, oldest first, as (story code, commit): each story once, and nothing else."""
        log = self.git("log", "--first-parent", "--reverse", "--format=%H%x00%P%x00%B%x01", f"{TARGET}")
        found = []
        for entry in log.split("\x01")[1:-1]:
            commit, parents, message = entry.strip("\n").split("\0")
            named = set(re.findall(r"[A-Za-z0-9._-]+", message.splitlines()[0])) & set(codes)
            named = named or {code for code in codes if f"feature/{code}" in message}
            if len(parents.split()) != 2 or len(named) != 1:
                raise ReplayError(f"commit {commit} on {TARGET} is not the merge of one story:\n{message}")
            found.append((named.pop(), commit))
        merged = [code for code, _ in found]
        wrong = [code for code in codes if merged.count(code) != 1]
        if wrong:
            raise ReplayError(f"{wrong[0]} was merged {merged.count(wrong[0])} times.")
        return found

    def _same(self, commit: str, release: Release) -> None:
        """The tree of ``commit`` has the release's paths, modes and bytes."""
        tree = self.tree(commit)
        if tree != release.files:
            wrong = differing(tree, release.files)
            raise ReplayError(f"{commit} is not {release}: {len(wrong)} paths differ, such as {wrong[0]}.")

    def _afresh(self, commit: str, wave: plan.Wave, own: int) -> int:
        """The number of tests that the suite collects in the files of ``commit``, written out of git once more."""
        with_index = {**self.environment, "GIT_INDEX_FILE": str(self.home / "index")}
        folder = self.home / "written"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.git("read-tree", commit, environment=with_index)
        self.git("checkout-index", "--all", f"--prefix={folder}/", environment=with_index)
        if digest(describe(folder)) != wave.release.digest:
            raise ReplayError(f"the files of {commit}, written out, are not those of {wave.release}.")
        outcome = self.suite.run(folder)
        if not outcome.passed or outcome.collected < own:
            raise ReplayError(
                f"after {wave.code} the suite collects {outcome.collected} tests of the release's own {own}, and "
                f"{'passes' if outcome.passed else 'fails'}:\n{outcome.output[-2000:]}"
            )
        return outcome.collected

    def tree(self, commit: str) -> dict[str, File]:
        """Every file of a commit, as git records it."""
        listed = self.git("ls-tree", "-r", "-z", "--full-tree", commit)
        entries = (entry.split("\t", 1) for entry in listed.split("\0") if entry)
        return {path: File(head.split()[0], head.split()[2]) for head, path in entries}

    def git(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        """What git answers in the repository. Raises ReplayError with its message where it refuses."""
        command = ["git", "-C", str(self.repository), *arguments]
        done = subprocess.run(command, capture_output=True, env=environment or self.environment)
        if done.returncode:
            raise ReplayError(f"git {' '.join(arguments)}: {os.fsdecode(done.stderr).strip()}")
        return os.fsdecode(done.stdout)

    def call(self, *arguments: str, quiet: bool = True) -> Any:
        """What maf answers in the repository; with ``quiet`` false it speaks to the terminal itself."""
        done = subprocess.run(
            [*self.maf, *arguments],
            cwd=self.repository,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        if done.returncode:
            said = f": {(done.stderr + done.stdout).strip()[-2000:]}" if quiet else "."
            raise ReplayError(f"maf {' '.join(arguments)} ended with exit code {done.returncode}{said}")
        return done.stdout
