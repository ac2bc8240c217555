"""The maf side of the supervisor: its start, its end, and how each run ended. Safe for any number of threads."""

from __future__ import annotations

import atexit
import base64
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.domain.errors import MafError
from orchestrator.process import table, wire
from orchestrator.process.model import Finished, Limits
from orchestrator.process.supervisor import command

_log = logging.getLogger(__name__)

OnExit = Callable[[Finished], None]

_numbers = itertools.count(1)


class Child:
    """A started run.

    ``pid`` and ``start_time`` are those of the run's keeper, the pair to record: it lives exactly as long as
    any process of the run, so ``alive(pid, start_time)`` and ``end_tree(pid, start_time)`` of a later maf speak of
    all of it, also after the command itself has ended. ``command_pid`` is the command's. All are None when
    the run did not start.
    """

    def __init__(self, connection: Connection, limits: Limits, path: Path | None, on_exit: OnExit | None) -> None:
        self.pid: int | None = None
        self.start_time: str | None = None
        self.command_pid: int | None = None
        self._connection = connection
        self.number = next(_numbers)
        self.limits = limits
        self._path = path
        self._on_exit = on_exit
        self._began = time.monotonic()
        self.started = threading.Event()
        self._ended = threading.Event()
        self._finished: Finished | None = None
        self._why: str | None = None

    def poll(self) -> Finished | None:
        """How it ended, None while it runs."""
        return self._finished if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> Finished | None:
        """Block until it has ended; None when ``timeout`` seconds passed before."""
        self._ended.wait(timeout)
        return self.poll()

    def stop(self, reason: str | None = None) -> None:
        """End the whole tree: SIGTERM, the grace of its limits, SIGKILL. Returns at once; no effect on an ended run.

        ``reason`` becomes ``Finished.error``.
        """
        self._why = self._why or reason
        try:
            self._connection.send({"op": "stop", "id": self.number})
        except OSError:
            pass  # the supervisor is gone: the reader thread is about to say so

    def accept(self, message: wire.Message) -> None:
        """From the reader thread."""
        if message["op"] == "started":
            self.pid, self.start_time, self.command_pid = message["pid"], message["start"], message["command"]
            self.started.set()
            return
        reason = message["reason"]
        self._finished = Finished(
            exit_code=message.get("exit_code"),
            signal=message.get("signal"),
            reason=reason,
            duration=message.get("duration", time.monotonic() - self._began),
            tail=_text(base64.b64decode(message.get("tail", "")), bool(message.get("tail_cut"))),
            output_path=self._path,
            error=(self._why if reason == "stopped" else None) or message.get("error"),
            cpu_seconds=message.get("cpu_seconds", 0.0),
            max_rss=message.get("max_rss", 0),
        )
        self._ended.set()
        self.started.set()
        if self._on_exit is not None:
            try:
                self._on_exit(self._finished)
            except Exception:  # noqa: BLE001 - the reader goes on for the other runs
                _log.exception("the on_exit callback of a run failed")


class Connection:
    """One supervisor process, and the thread that reads from it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise MafError("cannot start commands: the path of the Python interpreter is not known")
        self.sock, theirs = socket.socketpair()
        self.lock = threading.Lock()  # guards children and closed
        self.sending = threading.Lock()
        self.children: dict[int, Child] = {}
        self.closed = False
        self.crash: str | None = None
        try:
            self.helper = subprocess.Popen(
                command(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal is maf's to handle
            )
        except OSError as error:
            self.sock.close()
            raise MafError(f"cannot start commands: the helper {sys.executable} did not start: {error}") from error
        finally:
            theirs.close()
        self.reader = threading.Thread(target=self._read, name="maf-process-reader", daemon=True)
        self.reader.start()

    def send(self, message: wire.Message, files: Sequence[int] = ()) -> None:
        """Tell the supervisor; OSError when it is gone."""
        with self.sending:
            wire.send(self.sock, message, files)

    def add(self, child: Child) -> bool:
        """Expect news of this child; False when the supervisor is gone."""
        with self.lock:
            if not self.closed:
                self.children[child.number] = child
            return not self.closed

    def drop(self, child: Child) -> bool:
        """Take back a child that could not be sent; False when the reader has already told it its end."""
        with self.lock:
            self.closed = True
            return self.children.pop(child.number, None) is not None

    def _read(self) -> None:
        while True:
            try:
                received = wire.receive(self.sock)
            except (OSError, ValueError):
                received = None
            if received is None:
                break
            message, _ = received
            if message["op"] == "crash":
                self.crash = message["error"]
                continue
            with self.lock:
                child = self.children.get(message["id"])
                if message["op"] == "finished":
                    self.children.pop(message["id"], None)
            if child is not None:
                child.accept(message)
        with self.lock:
            self.closed = True
            left, self.children = list(self.children.values()), {}
        for child in left:
            self._lose(child)
        with self.sending:
            self.sock.close()
        self.helper.wait()

    def _lose(self, child: Child) -> None:
        """The supervisor was killed: the keeper ends its tree by itself; make sure before saying so."""
        error = self.crash or "the supervisor process was killed"
        gone = table.end_tree(child.pid or 0, child.start_time or "", child.limits.grace + 1.0)
        if not gone:
            error += f"; processes under {child.pid} could not be ended"
        child.accept({"op": "finished", "reason": "lost", "error": error})

    def close(self) -> None:
        """End every run and wait until nothing is left (bounded by the longest grace and some seconds)."""
        with self.lock:
            self.closed = True
            grace = max((child.limits.grace for child in self.children.values()), default=0.0)
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.reader.join(grace + 12.0)


_lock = threading.Lock()
_current: Connection | None = None


def connect() -> Connection:
    """The supervisor of this process, started when there is none."""
    global _current
    with _lock:
        if _current is None or _current.closed:
            _current = Connection()
        return _current


def helper() -> tuple[int, str]:
    """The supervisor's pid and start time, to record: with :func:`end_tree` of a later maf, all it started ends."""
    pid = connect().helper.pid
    found = table.find(pid)
    if found is None:
        raise MafError("cannot start commands: the process supervisor ended at once", hint="look for what kills it")
    return pid, found.start


def shutdown() -> None:
    """End every run of this process and its supervisor, and wait for that; a later launch starts anew."""
    global _current
    with _lock:
        connection, _current = _current, None
    if connection is not None:
        connection.close()


def _forget() -> None:
    """In a forked child of maf: the supervisor is the parent's, and must see the parent's end."""
    global _current, _lock
    _lock = threading.Lock()
    if _current is not None:
        os.close(_current.sock.detach())
        _current = None


atexit.register(shutdown)
os.register_at_fork(after_in_child=_forget)


def _text(data: bytes, cut: bool) -> str:
    if cut:  # do not begin in the middle of a character
        skip = next((at for at, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
        data = data[skip:]
    return data.decode("utf-8", errors="replace")
