"""Threads that do what takes long (git, checks, agents), each with a connection of its own to the store."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from orchestrator.gates.project import Project


@dataclass(frozen=True, slots=True)
class Done:
    """A job's end. ``key`` is what it was started under; ``error`` is what it raised, if it did."""

    key: tuple[str, str]
    result: Any
    error: BaseException | None


class Workers:
    """Runs jobs beside the loop. At most one job a key; what ends comes out of :attr:`finished`."""

    def __init__(self, open_project: Callable[[], Project], size: int) -> None:
        self._open_project = open_project
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="maf-job")
        self._local = threading.local()
        self._projects: list[Project] = []
        self.finished: queue.SimpleQueue[Done | None] = queue.SimpleQueue()
        self.running: dict[tuple[str, str], Future[None]] = {}

    def _project(self) -> Project:
        if not hasattr(self._local, "project"):
            self._local.project = self._open_project()
            self._projects.append(self._local.project)
        project: Project = self._local.project
        return project

    def start(self, kind: str, name: str, job: Callable[[Project], Any]) -> None:
        """Run ``job(project)`` in a thread under the key ``(kind, name)``."""
        key = (kind, name)

        def work() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = job(self._project())
            except BaseException as raised:  # noqa: BLE001 - whatever it is, the loop has to hear of it
                error = raised
            self.finished.put(Done(key, result, error))

        self.running[key] = self._pool.submit(work)

    def busy(self, kind: str, name: str | None = None) -> bool:
        """Whether a job of that kind (and name) is under way."""
        return any(k == kind and name in (None, n) for k, n in self.running)

    def count(self, kind: str) -> int:
        """How many jobs of that kind are under way."""
        return sum(1 for k, _ in self.running if k == kind)

    def take(self, seconds: float) -> list[Done]:
        """Wait up to ``seconds`` for an end or a :meth:`nudge`; what has ended by then."""
        ended: list[Done] = []
        try:
            done = self.finished.get(timeout=max(0.0, seconds))
            while True:
                if done is not None:
                    self.running.pop(done.key, None)
                    ended.append(done)
                done = self.finished.get_nowait()
        except queue.Empty:
            return ended

    def nudge(self) -> None:
        """Wake the loop: something else has happened."""
        self.finished.put(None)

    def close(self, interrupt: Callable[[], None]) -> None:
        """Wait for the jobs and let go of what they used; ``interrupt`` is called until none is left, to hurry them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        left = set(self.running.values())
        while left := wait(left, timeout=0.0).not_done:
            interrupt()
            wait(left, timeout=0.2)
        self._pool.shutdown(wait=True)
        for project in self._projects:
            project.ctx.store.close()
            project.repo.close()
