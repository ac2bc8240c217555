"""The keeper: the parent of one command, which outlives everything the command leaves behind.

Forked by the supervisor for one run and never exec'd. It starts the command in a session of its own, copies
its output to the log, enforces the limits by its own clock, and ends the whole tree when told to (a byte on
its control socket), when the supervisor is gone (end of file there), on SIGTERM, at a limit, or when the command
itself has ended. As a subreaper it becomes the parent of every orphan of the run, whatever session or group
that moved to, so ``ECHILD`` from wait(2) is proof that nothing is left. Without subreapers (macOS) it samples
the process table and follows what it has seen by pid and start, and by the command's process group.

Output goes through a pipe, not straight to the file: the limit is then exact whatever the speed of the writer.
"""

from __future__ import annotations

import base64
import errno
import os
import select
import signal
import socket
import time
from typing import NoReturn

from orchestrator.process import kernel, table, wire
from orchestrator.process.output import Output

_SAMPLE = 1.0  # seconds between samples of the process table, only without a subreaper
_UNKILLABLE = 10.0  # seconds of SIGKILL after which the result is reported all the same


def prepare() -> None:
    """Load in the supervisor what each keeper would otherwise load for itself."""
    kernel.prepare()
    table.find(os.getpid())
    base64.b64encode(b"").decode("ascii")
    try:
        os.wait4(-1, os.WNOHANG)  # its first call imports a module
    except ChildProcessError:
        pass


def _find(program: str, env: dict[str, str]) -> str:
    """Where the program is, as execvp(3) would find it in the child's PATH, from the current directory."""
    if "/" in program:
        return program
    refused: str | None = None
    for directory in env.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(directory or ".", program)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            refused = refused or path
    if refused is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
    return refused


def _why(number: int) -> str:
    if number == errno.ENOENT:
        return "no such program (or the interpreter its first line names is missing)"
    if number == errno.EACCES:
        return "it is not executable (Permission denied)"
    if number == errno.ENOEXEC:
        return "it is not a program: a script needs a first line such as #!/bin/sh"
    return os.strerror(number)


class Keeper:
    """One run, from fork to the last of its processes."""

    def __init__(self, request: wire.Message, control: socket.socket, log: int | None, stdin: int | None) -> None:
        self.request = request
        self.control = control
        self.log = log
        self.stdin = stdin
        self.exact = kernel.become_subreaper()
        self.reason = "exited"
        self.error: str | None = None
        self.phase = "running"  # running -> ending (SIGTERM sent) -> killing
        self.command = 0
        self.status: int | None = None
        self.output: Output | None = None
        self.kill_at = self.next_kill = self.next_sample = 0.0
        self.kill_pause = 0.01
        self.cpu = 0.0
        self.rss = 0
        self.childless = False
        self.terminated = False
        self.reported = False
        self.known: dict[int, table.Process] = {}
        self.wake, wake_end = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(wake_end, False)
        self.wake_end = wake_end
        self.poll = select.poll()

    # -- the command

    def start(self) -> bool:
        """Fork and exec; reports "started", or the run's end when that fails."""
        signal.set_wakeup_fd(self.wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        out_read, out_write = os.pipe()
        failure_read, failure_write = os.pipe()
        keeper = os.getpid()
        program, cwd = self.request["argv"][0], self.request["cwd"]
        self.began = self.ended_at = time.monotonic()
        why = None
        try:
            os.chdir(cwd)
        except OSError as error:
            why = f"the directory {cwd!r} cannot be entered: {error.strerror}"
        if why is None:
            try:
                path = _find(program, self.request["env"])
                self.command = os.fork()
            except OSError as error:
                why = _why(error.errno or errno.EIO)
            else:
                if self.command == 0:
                    self._exec(path, keeper, out_write, failure_write)
        for descriptor in (out_write, failure_write, self.stdin):
            if descriptor is not None:
                os.close(descriptor)
        failure = os.read(failure_read, 16)  # ends when exec closed the other end, or with the error's number
        os.close(failure_read)
        if failure:
            os.waitpid(self.command, 0)
            why = _why(int(failure))
        if why is not None:
            self.reason, self.error = "not_started", f"cannot start {program!r}: {why}"
            self._report()
            return False
        self.output = Output(out_read, self.log, self.request["output_bytes"], self.poll)
        for descriptor in (self.wake, self.control.fileno()):
            self.poll.register(descriptor, select.POLLIN)
        row = table.find(keeper)
        self._send({"op": "started", "pid": keeper, "start": row.start if row else "", "command": self.command})
        return True

    def _on_term(self, *_: object) -> None:
        self.terminated = True

    def _exec(self, path: str, keeper: int, output: int, failure: int) -> NoReturn:
        # As little as possible: every page touched here is one to copy. exec resets the signal handlers.
        try:
            os.setsid()
            kernel.die_with_parent()
            if os.getppid() != keeper:  # it died before the kernel was told
                os._exit(1)
            if self.stdin is not None:
                os.dup2(self.stdin, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.execve(path, self.request["argv"], self.request["env"])
        except OSError as error:
            os.write(failure, str(error.errno or errno.EIO).encode())
        finally:
            os._exit(127)

    # -- the loop

    def watch(self) -> None:
        """Until nothing of the run is left; reports its end."""
        output = self.output
        if output is None:
            raise RuntimeError("watch() comes after start()")
        deadline = None if self.request["timeout"] is None else self.began + self.request["timeout"]
        while True:
            self._reap()
            if self.childless and (self.exact or not self._members()):
                break
            self._decide(deadline)
            self._press()
            self._wait(output, deadline)
            if output.over:
                self.end("output_limit", self._over_text())
        output.read_rest()
        self._report()

    def _decide(self, deadline: float | None) -> None:
        """Whether it is time to end a running command."""
        if self.phase != "running":
            return
        now = time.monotonic()
        if self.status is not None:
            self.end("exited")
        elif self.terminated:
            self.end("stopped", "its keeper was told to terminate")
        elif deadline is not None and now >= deadline:
            self.end("timeout", f"took longer than {self.request['timeout']:g} s")
        elif not self.exact and now >= self.next_sample:
            self._members()
            self.next_sample = now + _SAMPLE

    def _press(self) -> None:
        """SIGKILL, again and again, once the grace is over."""
        now = time.monotonic()
        if self.phase == "ending" and now >= self.kill_at:
            self.phase = "killing"
            self.next_kill = now
        if self.phase != "killing":
            return
        if now >= self.next_kill:
            self._signal_all(signal.SIGKILL)
            self.next_kill = time.monotonic() + self.kill_pause
            self.kill_pause = min(self.kill_pause * 2, 1.0)
        if now >= self.kill_at + _UNKILLABLE and not self.reported:
            left = ", ".join(str(row.pid) for row in self._members())
            self.error = f"processes that SIGKILL does not end: {left}"
            self._report()

    def end(self, reason: str, error: str | None = None) -> None:
        """SIGTERM to all, SIGKILL after the grace; the first reason counts."""
        if self.phase != "running":
            return
        self.reason, self.error, self.phase = reason, error, "ending"
        self.kill_at = time.monotonic() + self.request["grace"]
        if self.request["grace"] > 0:
            self._signal_all(signal.SIGTERM)

    def _wait(self, output: Output, deadline: float | None) -> None:
        now = time.monotonic()
        due = [output.resume_at]
        if self.phase == "running":
            due += [deadline, None if self.exact else self.next_sample]
        else:
            due.append(self.kill_at if self.phase == "ending" else self.next_kill)
            due.append(None if self.exact else now + 0.05)
        times = [moment for moment in due if moment is not None]
        # Rounded up: poll(2) counts milliseconds, and waking a little early would spin.
        wait = max(0, int((min(times) - now) * 1000) + 1) if times else None
        for descriptor, _ in self.poll.poll(wait):
            if descriptor == self.wake:
                os.read(self.wake, 4096)
            elif descriptor == output.pipe:
                output.read()
            elif self._control_byte():
                self.end("stopped")
            else:
                self.poll.unregister(descriptor)
                self.end("stopped", "maf went away")
        if output.resume_at is not None and time.monotonic() >= output.resume_at:
            output.read()

    def _control_byte(self) -> bytes:
        try:
            return self.control.recv(1)
        except ConnectionError:
            return b""

    # -- the tree

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.childless = True
                return
            self.childless = False
            if pid == 0:
                return
            self.cpu += usage.ru_utime + usage.ru_stime
            self.rss = max(self.rss, usage.ru_maxrss)
            if pid == self.command:
                self.status = status
                self.ended_at = time.monotonic()

    def _members(self) -> list[table.Process]:
        rows = table.snapshot()
        me = os.getpid()
        if self.exact:
            return table.descendants(rows, [me])
        seen = [row for row in self.known.values() if rows.get(row.pid, row._replace(start="")).start == row.start]
        # The group is ours while its leader is unreaped or a member that was seen holds its number.
        if self.status is None or any(row.group == self.command for row in seen):
            seen += [row for row in rows.values() if row.group == self.command]
        members = seen + table.descendants(rows, [me, *(row.pid for row in seen)])
        self.known = {row.pid: row for row in members if row.pid != me}
        return list(self.known.values())

    def _signal_all(self, number: int) -> None:
        for row in self._members():
            table.send(row, number)

    # -- reports

    def _report(self) -> None:
        if self.reported:
            return
        self.reported = True
        output = self.output
        if output is not None and output.over and self.reason == "exited":
            self.reason, self.error = "output_limit", self._over_text()
        code = None if self.status is None else os.waitstatus_to_exitcode(self.status)
        unit = 1024 if table.LINUX else 1  # ru_maxrss is in KiB on Linux, in bytes on macOS
        self._send(
            {
                "op": "finished",
                "reason": self.reason,
                "exit_code": code if code is not None and code >= 0 else None,
                "signal": -code if code is not None and code < 0 else None,
                "duration": (self.ended_at if self.status is not None else time.monotonic()) - self.began,
                "cpu_seconds": self.cpu,
                "max_rss": self.rss * unit,
                "tail": base64.b64encode(output.tail if output else b"").decode("ascii"),
                "tail_cut": output is not None and output.written > len(output.tail),
                "error": self.error or (output.error if output else None),
            }
        )

    def _over_text(self) -> str:
        return f"wrote more than {self.request['output_bytes']} bytes"

    def _send(self, message: wire.Message) -> None:
        try:
            wire.send(self.control, message)
        except OSError:
            pass  # the supervisor is gone; the control socket says so as well


def keep(request: wire.Message, control: socket.socket, log: int | None, stdin: int | None) -> None:
    """One whole run, in a process of its own that ends with it."""
    kernel.set_name("maf-keeper")
    keeper = Keeper(request, control, log, stdin)
    if keeper.start():
        keeper.watch()
