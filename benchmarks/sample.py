"""A repository, its stories and a `maf run` in a process of its own, for the benchmarks that need a whole run."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import environment
from orchestrator.service import stories, waves
from orchestrator.service.context import Context
from orchestrator.store import open_store

WORK = 'echo "{story}" > "file-{story}" && git add "file-{story}" && git commit -qm "Work on {story}"'
"""What each agent does, and the bare script for it: one file, one commit."""
CONFIGURATION = """\

[checks]
commands = [["true"]]

[run]
agents = {agents}

[[agents]]
id = "dev"
command = ["sh", "-c", {work}]
prompt = "none"
submits = false
"""


@dataclass(frozen=True)
class Took:
    """Wall and CPU seconds (user, system) of a child and all that it waited for."""

    wall: float
    user: float
    system: float


def repository(folder: Path) -> Path:
    """A small repository with one commit on ``main``."""
    env = environment()
    for argv in (
        ["git", "init", "-q", "-b", "main", "."], ["git", "config", "user.email", "bench@example.invalid"],
        ["git", "config", "user.name", "Bench"],
    ):  # fmt: skip
        subprocess.run(argv, cwd=folder, env=env, check=True)
    for n in range(50):
        path = folder / "src" / f"part{n % 5}" / f"module{n}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"def f{i}() -> int:\n    return {i}\n\n\n" for i in range(40)))
    (folder / ".gitignore").write_text(".maf/\n")
    subprocess.run(["git", "add", "."], cwd=folder, env=env, check=True)
    subprocess.run(["git", "commit", "-qm", "First"], cwd=folder, env=env, check=True)
    return folder


def codes(count: int) -> list[str]:
    """The stories' codes."""
    return [f"S-{n:03}" for n in range(count)]


def plan(url: str, count: int) -> None:
    """One wave of ``count`` stories that depend on nothing."""
    with open_store(url) as store:
        user = Context(store)
        waves.add(user, "W1", name="All of them")
        for code in codes(count):
            stories.add(user, code, "W1", title=f"Add file-{code}", domain="core", criteria=["the file is there"])


def configure(folder: Path, *, agents: int, more: str = "") -> None:
    """Write and commit ``maf.toml``."""
    text = CONFIGURATION.format(agents=agents, work=json.dumps(WORK)) + more
    (folder / "maf.toml").write_text(text)
    subprocess.run(["git", "add", "maf.toml"], cwd=folder, env=environment(), check=True)
    subprocess.run(["git", "commit", "-qm", "Add maf"], cwd=folder, env=environment(), check=True)


def maf(url: str, *arguments: str) -> list[str]:
    """The command line of ``maf``, from this checkout."""
    return [sys.executable, "-c", "from orchestrator.cli.main import main; main()", "--db", url, *arguments]


def timed(argv: list[str], folder: Path, log: Path, **env: str) -> Took:
    """Run a child to its end; RuntimeError with its last lines where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    with log.open("wb") as out:
        done = subprocess.run(
            argv, cwd=folder, env=environment() | env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} failed with {done.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
    return Took(wall, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)


def tree(folder: Path) -> dict[str, Any]:
    """What ``main`` holds in the end: its files, and how many merges led there."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, env=environment(), check=True, capture_output=True, text=True
        ).stdout

    names = [n for n in git("ls-tree", "--name-only", "main").splitlines() if n.startswith("file-")]
    return {"files": names, "merges": len(git("rev-list", "--merges", "main").splitlines())}


def discard(folder: Path) -> None:
    """Remove a repository that has served."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()
