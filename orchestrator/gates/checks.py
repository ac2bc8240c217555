"""Running the project's own checks: ran, failed and could-not-run are three things, and only the first passes."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import GateFailed
from orchestrator.gates.project import Project

_COUNT = re.compile(r"\b(\d+) (passed|failed|skipped|errors?|xfailed|xpassed|deselected)\b")
_COVERAGE = re.compile(r"^TOTAL\b.*?(\d{1,3})%", re.MULTILINE)
_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of the checks. ``evidence`` is what the gate's row keeps; ``summary`` one line for people."""

    ok: bool
    evidence: dict[str, Any]
    summary: str
    tail: str


def run_checks(project: Project, worktree: Path, commit: str, log: str) -> Checked:
    """Run ``[checks] commands`` one after another in ``worktree``, which holds ``commit``; stops at the first failure.

    Evidence: commit, command (all of them, ``&&`` between), exit_code, duration (s), counts, coverage, runs (each
    command's own). GateFailed: no checks are configured and no reason is given why, or one was cut off.
    """
    from orchestrator.process import Limits, child_environment, run

    checks = project.settings.checks
    if not checks.commands:
        if checks.none is None:
            raise GateFailed(
                "the project has no checks, so nothing can pass here",
                hint='In maf.toml: [checks] commands = [["pytest", "-q"]], or none = "why there are none".',
            )
        decision = {"by": project.ctx.agent, "no_checks": checks.none}
        return Checked(True, {"commit": commit, "decision": decision}, f"no checks: {checks.none}", "")
    # In a worktree that has lost its .git, git would find the user's own checkout above it.
    mine = {"MAF_CHECK": "1", "GIT_CEILING_DIRECTORIES": str(worktree.parent)}
    runs: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    coverage: int | None = None
    tail = ""
    ok = True
    error = None
    for number, argv in enumerate(checks.commands):
        path = project.log("checks", f"{log}-{number}.log")
        finished = run(
            argv, cwd=worktree, env=child_environment({**mine, **checks.environment}),
            limits=Limits(checks.timeout, checks.output_limit), log_path=path,
        )  # fmt: skip
        tail, ok, error = finished.tail, finished.ok, finished.error
        if finished.reason in ("stopped", "lost"):
            # Neither passed nor failed: nobody may reject work for it.
            raise GateFailed(
                f"the check `{' '.join(argv)}` was cut off: {error or finished.reason}", hint="Run it again."
            )
        for number_of, what in _COUNT.findall(tail):
            counts[what] = counts.get(what, 0) + int(number_of)
        if found := _COVERAGE.search(tail):
            coverage = int(found[1])
        runs.append(
            {
                "command": list(argv), "exit_code": finished.exit_code, "reason": finished.reason,
                "duration": round(finished.duration, 3), "log": os.path.relpath(path, project.repo.root),
            }
        )  # fmt: skip
        if not ok:
            break
    last = runs[-1]
    evidence: dict[str, Any] = {
        "commit": commit,
        "command": " && ".join(" ".join(run["command"]) for run in runs),
        "exit_code": 0 if ok else last["exit_code"] or None,
        "duration": round(sum(run["duration"] for run in runs), 3),
        "runs": runs,
    }
    if counts:
        evidence["counts"] = counts
    if coverage is not None:
        evidence["coverage"] = coverage
    if ok:
        summary = f"checks passed in {evidence['duration']:.1f} s"
    elif last["reason"] == "exited":
        how = f"exited with {last['exit_code']}" if last["exit_code"] is not None else "was killed by a signal"
        summary = f"`{' '.join(last['command'])}` {how}"
    else:
        words = {"timeout": f"ran longer than {checks.timeout:.0f} s", "output_limit": "wrote too much output"}
        summary = f"`{' '.join(last['command'])}` could not be judged: " + words.get(
            last["reason"], f"{last['reason'].replace('_', ' ')}{f' ({error})' if error else ''}"
        )
    evidence["summary"] = summary
    return Checked(ok, evidence, summary, tail)


@contextmanager
def fresh_worktree(project: Project, commit: str) -> Iterator[Path]:
    """A worktree that holds exactly ``commit`` while the block runs; brought to it afresh each time."""
    home = project.home / "checks"
    home.mkdir(parents=True, exist_ok=True)
    for slot in range(_SLOTS):
        lock = os.open(home / f"slot-{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            path = home / f"slot-{slot}"
            project.repo.checkout_detached(path, commit)
            yield path
        finally:
            os.close(lock)
        return
    raise GateFailed(f"{_SLOTS} checks run already", hint="Wait for them to end.")


def excerpt(text: str, lines: int = 30) -> str:
    """The last lines of an output, for a finding."""
    return "\n".join(text.strip().splitlines()[-lines:])[-3000:]
