"""The output of one command, on its way from the pipe to the log."""

from __future__ import annotations

import os
import select
import time

TAIL_BYTES = 4096
_CHUNK = 1 << 16
_BATCH = 0.05  # seconds between small reads


class Output:
    """Copies the pipe to the log up to ``limit`` bytes and drops the rest, so that the writer is never blocked.

    After a small read the pipe is left alone for ``_BATCH`` seconds, so a chatty agent costs at most 20 wake-ups a
    second; the kernel's buffer holds what comes meanwhile.
    """

    def __init__(self, pipe: int, log: int | None, limit: int, poll: select.poll) -> None:
        self.pipe = pipe
        self.log = log
        self.limit = limit
        self.poll = poll
        self.written = 0
        self.over = False  # it wrote more than the limit
        self.tail = b""
        self.error: str | None = None  # why the log is incomplete
        self.resume_at: float | None = None  # when the pipe is read next, if it is not polled
        os.set_blocking(pipe, False)
        poll.register(pipe, select.POLLIN)

    def read(self) -> None:
        """Take what is there."""
        paused, self.resume_at = self.resume_at is not None, None
        try:
            data = os.read(self.pipe, _CHUNK)
        except BlockingIOError:
            if paused:
                self.poll.register(self.pipe, select.POLLIN)
            return
        self._keep(data)
        pause = len(data) < _CHUNK // 4
        if pause and not paused:
            self.poll.unregister(self.pipe)
        elif paused and not pause:
            self.poll.register(self.pipe, select.POLLIN)
        if pause and data:
            self.resume_at = time.monotonic() + _BATCH

    def read_rest(self) -> None:
        """Take what is left once all writers are gone; bounded, as a stranger may have been handed the pipe."""
        for _ in range(64):
            try:
                data = os.read(self.pipe, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                return
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        room = self.limit - self.written
        if len(data) > room:
            data = data[:room]
            self.over = True
        self.written += len(data)
        self.tail = (self.tail + data)[-TAIL_BYTES:]
        while data and self.log is not None:
            try:
                data = data[os.write(self.log, data) :]
            except OSError as error:  # a full disk does not stop the command, and is told
                os.close(self.log)
                self.log = None
                self.error = f"the log is incomplete: {error.strerror}"
