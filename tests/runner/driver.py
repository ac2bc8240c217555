"""``maf run`` as a process for the tests: ``driver.py ROOT SETTINGS UNTIL KILL_AT``. Prints its events as JSON lines.

KILL_AT is ``before|after NAME N``: kill -9 of this very process before or after the Nth call of a function.
"""

import itertools
import json
import os
import pickle
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.gates.project import Project
from orchestrator.git import Repository
from orchestrator.runner import launch
from orchestrator.runner.loop import Runner
from orchestrator.service import reviews, runs, sessions, stories
from orchestrator.service.context import Context
from orchestrator.store import open_store

HOMES = {
    "assign": stories, "start": stories, "advance": stories, "submit": stories, "begin": runs, "launched": runs,
    "end": runs, "register": sessions, "qa_pass": reviews, "accept": reviews, "integrate": reviews, "merge": reviews,
    "spawn": launch, "add_worktree": Repository, "create_branch": Repository, "checkout_detached": Repository,
    "commit_merge": Repository, "update_branch": Repository, "update_checkout": Repository,
    "remove_worktree": Repository, "refresh_branch": Repository, "archive": Repository,
}  # fmt: skip


def kill_at(point: str) -> None:
    when, name, number = point.split()
    home, calls = HOMES[name], itertools.count(1)
    real = getattr(home, name)

    def patched(*args, **more):
        mine = next(calls) == int(number)
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **more)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(home, name, patched)


def main(root: str, settings_file: str, until: str, point: str) -> int:
    settings = pickle.loads(Path(settings_file).read_bytes())  # noqa: S301 - the test has written it
    if point:
        kill_at(point)

    def open_project() -> Project:
        return Project(Repository.open(Path(root)), settings, Context(open_store(settings.store)))

    runner = Runner(open_project, lambda event: print(json.dumps(event.as_dict()), flush=True), until=until)
    signal.signal(signal.SIGTERM, lambda *_: runner.end("SIGTERM"))
    return 0 if runner.run() else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
