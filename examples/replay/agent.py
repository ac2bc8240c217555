"""A scripted agent: takes its story's files from the release they belong to, commits, and takes the story to QA.

Started by `maf run` in the story's worktree, as ``agent.py MANIFEST``. Every step can be done again: a second attempt
finds the branch as the first one left it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from releases import put


def apply(story: dict[str, Any], worktree: Path) -> None:
    """Make the story's files in ``worktree`` what they are in its release, and commit what that changes."""
    paths, source = story["paths"], Path(story["source"])
    put(paths, source, worktree)
    there = [path for path in paths if (worktree / path).is_symlink() or (worktree / path).exists()]
    gone = [path for path in paths if path not in there]
    git = ["git", "--literal-pathspecs", "-C", str(worktree)]
    if there:  # --force: a package may ship files that its own .gitignore names
        subprocess.run([*git, "add", "--force", "--", *there], check=True)
    if gone:
        subprocess.run([*git, "rm", "--cached", "--quiet", "--ignore-unmatch", "--", *gone], check=True)
    if subprocess.run([*git, "diff", "--cached", "--quiet"]).returncode:
        subprocess.run([*git, "commit", "--quiet", "-m", story["title"]], check=True)


def maf(command: Sequence[str], *arguments: str) -> Any:
    """What ``maf ARGUMENTS --json`` answers; ends this agent with maf's own message and exit code where it refuses."""
    done = subprocess.run([*command, *arguments, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        print(f"maf {' '.join(arguments)}: exit {done.returncode}: {done.stdout.strip()}", file=sys.stderr)
        sys.exit(done.returncode)
    return json.loads(done.stdout)["data"]


def main() -> None:
    """Do the story of MAF_STORY."""
    manifest = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    code, command = os.environ["MAF_STORY"], manifest["maf"]
    shown = maf(command, "story", "show", code)
    gate = int(shown["current_gate"])
    if gate < 2:
        maf(command, "story", "advance", code)
        gate = 2
    apply(manifest["stories"][code], Path.cwd())
    if gate < 3:
        maf(command, "story", "advance", code)
    maf(command, "story", "submit", code)


if __name__ == "__main__":
    main()
