"""A scripted dev agent. It stands in for a coding agent and is no part of maf: to it, ``git`` and ``maf`` are commands.

It gets what any agent gets: the prompt on stdin, ``MAF_STORY`` and its identity in the environment, the story's
worktree as the working directory. What it would have to think up stands in :mod:`orchestrator.demo.work`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from orchestrator.demo.sample import TARGET
from orchestrator.demo.work import WORK, Work

MAIN = Path("ledger/cli/main.py")
PATIENCE = 20.0
"""Seconds to wait for the story that this one meets."""


def run(*argv: str, ok: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """Run a command and show it; a failure of it is the agent's."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    sys.stdout.write(f"$ {' '.join(argv)}\n{done.stdout}")
    sys.stdout.flush()
    if done.returncode not in ok:
        sys.exit(done.returncode)
    return done


def commit(message: str) -> None:
    """Commit what is staged, if anything is."""
    if run("git", "diff", "--cached", "--quiet", ok=(0, 1)).returncode:
        run("git", "commit", "-q", "-m", message)


def resolve() -> None:
    """Finish a merge that stopped at conflicts."""
    files = run("git", "diff", "--name-only", "--diff-filter=U").stdout.splitlines()
    for name in files:
        path = Path(name)
        path.write_text(keep_both(path.read_text("utf-8")), "utf-8")
        run("git", "add", "--", name)
    if run("git", "rev-parse", "-q", "--verify", "MERGE_HEAD", ok=(0, 1)).returncode == 0:
        run("git", "commit", "-q", "--no-edit")


def write(work: Work, names: Iterable[str]) -> None:
    """Make the story's change in these files."""
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(work.files[name], "utf-8")


def wait_for_branch(story: str) -> None:
    """Until that story's branch is there."""
    until = time.monotonic() + PATIENCE
    branch = f"refs/heads/feature/{story}"
    # Quietly: what is looked at twenty times is not worth twenty lines.
    while subprocess.run(["git", "show-ref", "-q", branch], check=False).returncode and time.monotonic() < until:
        time.sleep(0.05)


def register(text: str, command: str) -> str:
    """``ledger/cli/main.py`` with a command in it: its import and its line in the table, each in order."""
    lines = text.splitlines()
    for start, end in (("from ledger.cli.", f" import {command}"), ('    "', f'": {command},')):
        block = [n for n, line in enumerate(lines) if line.startswith(start) and line[len(start)].isalpha()]
        first, last = block[0], block[-1] + 1
        lines[first:last] = sorted({*lines[first:last], f"{start}{command}{end}"})
    return "\n".join(lines) + "\n"


def keep_both(text: str) -> str:
    """A file with conflict markers, resolved: the lines of both sides, in order."""
    kept: list[str] = []
    sides: set[str] = set()
    inside: str | None = None
    for line in text.splitlines():
        marker = line[:7]
        if marker == "<<<<<<<":
            inside, sides = "ours", set()
        elif marker == "|||||||" and inside:
            inside = "base"
        elif marker == "=======" and inside:
            inside = "theirs"
        elif marker == ">>>>>>>" and inside:
            kept += sorted(sides)
            inside = None
        elif inside is None:
            kept.append(line)
        elif inside != "base":
            sides.add(line)
    return "\n".join(kept) + "\n"


def learned(prompt: str) -> str:
    """What the prompt tells of earlier attempts."""
    return prompt.partition("What earlier attempts came to")[2]


def title_in(prompt: str) -> str:
    """The first line of what the prompt says is wanted."""
    return prompt.partition("What is wanted")[2].splitlines()[2]


def main() -> None:
    """Work on the story of the environment, from the prompt to the submission."""
    prompt = sys.stdin.read()  # a real agent would think now
    code = os.environ["MAF_STORY"]
    work, title = WORK[code], title_in(prompt)
    if f"maf story advance {code}     gate 1" in prompt:
        run("maf", "story", "advance", code)
    resolve()
    if work.dies_after and not run("git", "log", "--oneline", f"{TARGET}..HEAD").stdout:
        write(work, work.dies_after)
        run("git", "add", "-A")
        commit(f"{title}: a first part")
        os.kill(os.getpid(), signal.SIGKILL)
    write(work, work.files)
    if work.command:
        MAIN.write_text(register(MAIN.read_text("utf-8"), work.command), "utf-8")
    if work.meets:
        wait_for_branch(work.meets)
    run("git", "add", "-A")
    for name in work.files:
        if Path(name).name in learned(prompt):
            run("git", "add", "-f", "--", name)
    commit(title)
    run("maf", "story", "advance", code)
    run("maf", "story", "submit", code)


if __name__ == "__main__":
    main()
