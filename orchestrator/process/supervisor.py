"""The supervisor: one helper process per maf process, which forks a keeper for every run.

Single-threaded, so forking is safe; started with only the standard library, so a fork is cheap. It passes
requests down and results up. Its socket to maf ends when maf dies, however that happens: it then closes the
keepers' sockets, each keeper ends its tree, and it leaves when the last is gone. It is a subreaper as well:
a child of it that is no keeper is what a killed keeper left behind, and is killed.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn

from orchestrator.process import kernel, table, wire
from orchestrator.process.keeper import keep, prepare

HIDDEN_ARGUMENT = "--maf-process-supervisor"


class _Run:
    def __init__(self, number: int, pid: int, sock: socket.socket) -> None:
        self.number = number
        self.pid = pid
        self.sock = sock
        self.finished = False
        self.crash: str | None = None


class Supervisor:
    """The loop between maf and the keepers."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.runs: dict[int, _Run] = {}  # by the descriptor of the keeper's socket
        self.lost: list[_Run] = []  # their keeper died; reported when its strays are gone
        self.closing = False
        self.terminated = False
        self.wake, self.wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self.wake_end, False)
        self.poll = select.poll()

    def serve(self) -> None:
        """Until maf is gone and nothing is left of what it started."""
        signal.set_wakeup_fd(self.wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        for descriptor in (self.sock.fileno(), self.wake):
            self.poll.register(descriptor, select.POLLIN)
        while True:
            self._reap()
            if self.terminated:
                self._close()
            if self.lost and not self._kill_strays():
                for run in self.lost:
                    error = run.crash or "its keeper process was killed"
                    self._tell({"op": "finished", "id": run.number, "reason": "lost", "error": error})
                self.lost.clear()
            if self.closing and not self.runs and not self.lost:
                return
            for descriptor, event in self.poll.poll(20 if self.lost else None):
                if descriptor == self.wake:
                    os.read(self.wake, 4096)
                elif descriptor in self.runs:
                    self._from_keeper(self.runs[descriptor])
                elif event & select.POLLHUP:  # maf is dead: what it still asked for is not begun
                    self._close()
                elif not self.closing:
                    self._from_maf()

    def _on_term(self, *_: object) -> None:
        self.terminated = True

    def _from_maf(self) -> None:
        received = wire.receive(self.sock)
        if received is None:
            self._close()
            return
        request, files = received
        if request["op"] == "run":
            self._launch(request, files)
        else:
            for run in self.runs.values():
                if run.number == request["id"]:
                    try:
                        run.sock.send(b"s")
                    except OSError:
                        pass  # it has just ended

    def _launch(self, request: wire.Message, files: list[int]) -> None:
        rest = list(files)
        log = rest.pop(0) if request["log"] else None
        stdin = rest.pop(0) if request["stdin"] else None
        ours, theirs = socket.socketpair()
        try:
            pid = os.fork()
        except OSError as error:
            text = f"cannot start {request['argv'][0]!r}: {error.strerror}"
            self._tell({"op": "finished", "id": request["id"], "reason": "not_started", "error": text})
            ours.close()
        else:
            if pid == 0:
                self._become_keeper(request, ours, theirs, log, stdin)
            run = _Run(request["id"], pid, ours)
            self.runs[ours.fileno()] = run
            self.poll.register(ours.fileno(), select.POLLIN)
        theirs.close()
        wire.close(files)

    def _become_keeper(
        self, request: wire.Message, ours: socket.socket, theirs: socket.socket, log: int | None, stdin: int | None
    ) -> NoReturn:
        code = 70
        try:
            # A copy of a sibling's socket here would keep that sibling from seeing the supervisor's end.
            signal.set_wakeup_fd(-1)
            for sock in (self.sock, ours, *(run.sock for run in self.runs.values())):
                sock.close()
            wire.close((self.wake, self.wake_end))
            keep(request, theirs, log, stdin)
            code = 0
        except BaseException:  # noqa: BLE001 - told to the supervisor, which ends the run
            try:
                wire.send(theirs, {"op": "crash", "error": traceback.format_exc()})
            except OSError:
                pass
        finally:
            os._exit(code)

    def _from_keeper(self, run: _Run) -> None:
        received = wire.receive(run.sock)
        if received is None:
            descriptor = run.sock.fileno()
            self.poll.unregister(descriptor)
            del self.runs[descriptor]
            run.sock.close()
            if not run.finished:
                self.lost.append(run)
            return
        message, _ = received
        if message["op"] == "crash":
            run.crash = message["error"]
            return
        run.finished = run.finished or message["op"] == "finished"
        self._tell({**message, "id": run.number})

    def _kill_strays(self) -> bool:
        keepers = frozenset(run.pid for run in self.runs.values())
        strays = table.descendants(table.snapshot(), [os.getpid()], skip=keepers)
        for row in strays:
            table.send(row, signal.SIGKILL)
        return bool(strays)

    def _reap(self) -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    def _close(self) -> None:
        """End every run: a keeper reads the end of its socket as that."""
        if self.closing:
            return
        self.closing = True
        self.poll.unregister(self.sock.fileno())
        for run in self.runs.values():
            try:
                run.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has just ended

    def _tell(self, message: wire.Message) -> None:
        try:
            wire.send(self.sock, message)
        except OSError:
            self._close()


def main(descriptor: int) -> None:
    """Serve the maf process at the other end of this socket, then return."""
    os.set_inheritable(descriptor, False)
    # Handlers, not SIG_IGN: exec resets them, so that commands start with the defaults (Python ignores SIGPIPE).
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, lambda *_: None)
    prepare()
    kernel.become_subreaper()
    kernel.set_name("maf-supervisor")
    gc.disable()  # nothing here makes cycles, and a collection would copy the pages shared with the keepers
    sock = socket.socket(fileno=descriptor)
    try:
        Supervisor(sock).serve()
    except BaseException:
        wire.send(sock, {"op": "crash", "error": traceback.format_exc()})
        raise


def serve_if_asked(argv: list[str]) -> bool:
    """In a frozen executable the helper is the executable itself: ``maf HIDDEN_ARGUMENT N``.

    The command line's first act must be ``if serve_if_asked(sys.argv): return``.
    """
    if len(argv) != 3 or argv[1] != HIDDEN_ARGUMENT or not argv[2].isdigit():
        return False
    main(int(argv[2]))
    return True


def command(descriptor: int) -> list[str]:
    """The argv that starts a supervisor on this inherited socket."""
    if getattr(sys, "frozen", False):
        return [sys.executable, HIDDEN_ARGUMENT, str(descriptor)]
    # -I -S: no site-packages, no user's PYTHON* variables: it starts fast and imports only what is ours.
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    module = f"{__package__}.supervisor"
    code = f"import sys; sys.path.append({root!r}); from {module} import main; main({descriptor})"
    return [sys.executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", code]
