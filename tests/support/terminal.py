"""Running ``maf`` as people and programs do: in a terminal, in a pipe; and looking for what it leaves running."""

import errno
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

MAF = str(Path(sys.executable).parent / "maf")
LIMIT = 280.0
"""Seconds: no more than a net below a test's own limit, on a machine that has much else to do."""


def environment(**more):
    """This process's, without what would change how maf speaks or where it looks."""
    hidden = ("NO_COLOR", "COLUMNS", "TERM", "PYTEST_CURRENT_TEST")
    kept = {k: v for k, v in os.environ.items() if k not in hidden and not k.startswith("MAF_")}
    return {**kept, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8", **more}


def piped(argv, cwd, **more):
    """Run to the end with pipes for stdout and stderr."""
    return subprocess.run(
        argv, cwd=cwd, env=environment(**more), capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL
    )


class Terminal:
    """A program in a terminal of its own, 100 columns by 40 lines."""

    def __init__(self, argv, cwd, **more):
        self._main, inner = os.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen(
            argv, cwd=cwd, env=environment(**more), stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C reaches it
        )  # fmt: skip
        os.close(inner)
        self.output = ""
        self._until = time.monotonic() + LIMIT

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._main)

    def read(self):
        """Some more of the output; False at its end."""
        left = self._until - time.monotonic()
        if left <= 0 or not select.select([self._main], [], [], left)[0]:
            raise AssertionError(f"nothing more came in time after:\n{self.output[-3000:]}")
        try:
            data = os.read(self._main, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux says once nobody has the terminal open
                raise
            data = b""
        self.output += data.decode("utf-8", "replace")
        return bool(data)

    def wait_for(self, text):
        """Read until that was shown."""
        while text not in self.output:
            assert self.read(), f"it ended before it said {text!r}:\n{self.output[-3000:]}"

    def drain(self):
        """Read what is there now; all output so far."""
        while select.select([self._main], [], [], 0)[0] and self.read():
            pass
        return self.output

    def type(self, text):
        """As if typed."""
        os.write(self._main, text.encode())

    def finish(self):
        """Read to the end; the exit code."""
        while self.read():
            pass
        return self.process.wait(timeout=30)


def in_terminal(argv, cwd, **more):
    """Run to the end in a terminal: exit code and all output."""
    with Terminal(argv, cwd, **more) as terminal:
        return terminal.finish(), terminal.output


def leftovers(folder, patience=5.0):
    """The command lines of processes that have to do with ``folder``, once they have had a moment to end."""
    until = time.monotonic() + patience
    while (found := _processes(str(folder))) and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _processes(folder):
    listed = subprocess.run(["ps", "axww", "-o", "pid=", "-o", "command="], capture_output=True, text=True, check=True)
    found = []
    for line in listed.stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        if int(pid) != os.getpid() and (folder in command or _cwd(pid).startswith(folder)):
            found.append(command)
    return found


def _cwd(pid):
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink())
    except OSError:
        return ""
