"""Names to commits through one long-lived ``git cat-file``: a lookup costs microseconds, not a process."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import weakref

from orchestrator.git.command import PREFIX, Git
from orchestrator.git.errors import GitUnavailable
from orchestrator.git.models import Commit

_FOUND = re.compile(rb"([0-9a-f]{40,64}) (\w+) (\d+)\n")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Objects:
    """Reads objects and refs of one repository. It ends with its owner: its input is closed, even by kill -9."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._stop: weakref.finalize[..., Objects] | None = None

    def sha(self, name: str) -> str | None:
        """The object a name stands for (any revision syntax), or None."""
        found = self._ask("info", name)
        return found[0] if found else None

    def read(self, name: str) -> tuple[str, str, bytes] | None:
        """(sha, type, content) of an object, or None."""
        return self._ask("contents", name)

    def commit(self, name: str) -> Commit | None:
        """The commit a name stands for (tags are followed), or None."""
        found = self.read(f"{name}^{{commit}}")
        if found is None:
            return None
        tree, parents = "", []
        for line in found[2].split(b"\n\n", 1)[0].split(b"\n"):
            if line.startswith(b"tree "):
                tree = line[5:].decode()
            elif line.startswith(b"parent "):
                parents.append(line[7:].decode())
        return Commit(found[0], tree, tuple(parents))

    def close(self) -> None:
        """End the reader; the next question starts another."""
        with self._lock:
            if self._stop is not None:
                self._stop()
            self._process = None

    def _ask(self, verb: str, name: str) -> tuple[str, str, bytes] | None:
        if not name or _CONTROL.search(name):
            return None
        try:
            question = f"{verb} ".encode() + os.fsencode(name) + b"\0"
        except UnicodeEncodeError:
            return None
        with self._lock:
            for _ in range(2):
                try:
                    return self._exchange(question, with_content=verb == "contents")
                except OSError:
                    self._process = None  # it was killed: ask another
        self._git.version()
        raise GitUnavailable("git cat-file ended unexpectedly", hint="`git fsck` names what is damaged")

    def _exchange(self, question: bytes, *, with_content: bool) -> tuple[str, str, bytes] | None:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(question)
        process.stdin.flush()
        line = process.stdout.readline()
        if not line.endswith(b"\n"):
            raise BrokenPipeError
        found = _FOUND.fullmatch(line)
        if found is None:
            return None
        content = b""
        if with_content:
            content = process.stdout.read(int(found[3]) + 1)
            if len(content) != int(found[3]) + 1:
                raise BrokenPipeError
            content = content[:-1]
        return found[1].decode(), found[2].decode(), content

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._pid == os.getpid():  # after a fork the pipe is the parent's
            return self._process
        try:
            process = subprocess.Popen(
                [*PREFIX, "cat-file", "--batch-command", "-z"],
                cwd=self._git.root,
                env=self._git.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        except OSError as error:
            raise GitUnavailable(f"git could not be started: {error.strerror}", hint="is git on the PATH?") from error
        self._process, self._pid = process, os.getpid()
        self._stop = weakref.finalize(self, _end, process, self._pid)
        return process


def _end(process: subprocess.Popen[bytes], pid: int) -> None:
    if pid != os.getpid():
        return
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:
                pass
    process.wait()
