"""The doorbell: a file that is touched after a commit, and inotify to sleep on it. Without inotify, short sleeps."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import select
import sys
import time
from contextlib import suppress

_IN_ATTRIB, _IN_MODIFY, _IN_NONBLOCK, _IN_CLOEXEC = 0x4, 0x2, 0o4000, 0o2000000


class Bell:
    """Waits for rings at ``path``. Any number of processes may wait on one path."""

    def __init__(self, path: str) -> None:
        self._fd: int | None = None
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        if sys.platform == "linux":
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
            if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(path), _IN_ATTRIB | _IN_MODIFY) >= 0:
                self._fd = fd
            elif fd >= 0:
                os.close(fd)

    @staticmethod
    def ring(path: str) -> None:
        """Wake all who wait. A bell that nobody has made yet is not rung: nobody waits."""
        with suppress(OSError):
            os.utime(path)

    def wait(self, seconds: float) -> None:
        """Sleep until a ring, or ``seconds``."""
        if self._fd is None:
            time.sleep(min(seconds, 0.05))
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(max(0, int(seconds * 1000))):
            with suppress(BlockingIOError):
                os.read(self._fd, 65536)

    def close(self) -> None:
        """Let go of it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
