"""Driving ``maf run`` in tests: in a thread, with events to wait for, or in a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

from orchestrator.process import alive, table
from orchestrator.runner.loop import Runner

DRIVER = Path(__file__).parents[1] / "runner" / "driver.py"
PATIENCE = 60.0  # seconds after which a test gives up; nothing waits that long


class InThread:
    """A run beside the test: ``wait`` for its events, ``join`` for its end."""

    def __init__(self, box, **options) -> None:
        self.events = []
        self._news = threading.Condition()
        self._seen = 0
        self.result = self.error = None
        self.runner = Runner(box.open, self._report, **options)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.result = self.runner.run()
        except BaseException as error:  # noqa: BLE001 - raised in join
            self.error = error
        with self._news:
            self._news.notify_all()

    def _report(self, event):
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def wait(self, kind, text=""):
        """The first event of that kind, with that text in it, since the last one waited for."""
        with self._news:
            while True:
                for at in range(self._seen, len(self.events)):
                    event = self.events[at]
                    if event.kind == kind and text in event.text:
                        self._seen = at + 1
                        return event
                assert self._thread.is_alive(), (kind, text, self.said(), self.error)
                assert self._news.wait(PATIENCE), (kind, text, self.said())

    def said(self):
        return [f"{event.kind}: {event.text}" for event in self.events]

    def end(self, why="the test"):
        self.runner.end(why)
        return self.join()

    def join(self):
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), self.said()
        if self.error:
            raise self.error
        return self.result


def run(box, **options):
    """A whole run; its events."""
    there = InThread(box, **options)
    there.result = there.join()
    return there


class InProcess:
    """A run in a process of its own. ``kill_at``: see ``tests/runner/driver.py``."""

    def __init__(self, box, *, until="done", kill_at="") -> None:
        settings = box.root / ".maf" / "test-settings"
        settings.parent.mkdir(exist_ok=True)
        settings.write_bytes(pickle.dumps(box.settings))
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), str(box.root), str(settings), until, kill_at],
            stdout=subprocess.PIPE, text=True, cwd=box.root,
        )  # fmt: skip
        self.pid = self.process.pid
        self.events = []

    def wait(self, kind, text=""):
        """Read events up to one of that kind."""
        for line in self.process.stdout:
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == kind and text in event["text"]:
                return event
        raise AssertionError((kind, text, self.events))

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.join()

    def join(self):
        """Its exit code, negative for a signal."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        self.events += [json.loads(line) for line in out.splitlines() if line.endswith("}")]
        return self.process.returncode


def processes_in(root: Path) -> list[str]:
    """The command lines of processes that work below a directory, the test's own reader of git objects apart."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(root):
                command = (entry / "cmdline").read_text().replace("\0", " ")
                row = table.find(int(entry.name))
                if row is not None and not (row.parent == os.getpid() and "cat-file" in command):
                    found.append(command)
        except OSError:
            continue
    return found


def is_alive(pid: int) -> bool:
    """Whether a process lives, zombies apart."""
    row = table.find(pid)
    return row is not None and alive(pid, row.start)
