"""What the tests of processes share: a place where processes announce themselves, and are seen to end."""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import process
from orchestrator.process import table

if TYPE_CHECKING:
    from collections.abc import Iterator

TREE = Path(__file__).with_name("tree.py")
PATIENCE = 15.0  # seconds after which a test gives up; nothing waits that long


class Beacon:
    """A socket that every process of a tree holds a connection to: end of file is the proof of its end."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="maf-")  # short: a socket's path has at most 104 bytes
        self.path = f"{self.directory}/s"
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen(64)
        self.server.settimeout(PATIENCE)
        self.held: dict[str, socket.socket] = {}
        self.pids: dict[str, int] = {}

    def tree(self, *modes: str) -> list[str]:
        """The argv of a family: root, session, leaf and (if not told otherwise) daemon."""
        return [sys.executable, "-I", "-S", str(TREE), self.path, *modes]

    def expect(self, *names: str) -> None:
        """Wait until these have announced themselves."""
        missing = set(names)
        while missing:
            sock, _ = self.server.accept()
            sock.settimeout(PATIENCE)
            name, pid = sock.recv(64).decode().split()
            self.held[name], self.pids[name] = sock, int(pid)
            missing.remove(name)
        for name in names:
            self.held[name].sendall(b".")

    def gone(self, *names: str) -> None:
        """Wait until these (or all) have ended."""
        for name in names or tuple(self.held):
            assert _ends(self.held[name]), f"{name} lives"

    def living(self) -> list[str]:
        """Who has not ended, right now."""
        found = []
        for name, sock in self.held.items():
            sock.setblocking(False)
            if not _ends(sock):
                found.append(name)
        return found

    def close(self) -> None:
        for sock in self.held.values():
            sock.close()
        self.server.close()
        shutil.rmtree(self.directory)


def _ends(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True
    except (BlockingIOError, TimeoutError):
        return False


def wait_gone(pid: int, start: str) -> None:
    """Wait for the end of a process that is not ours to wait for."""
    until = time.monotonic() + PATIENCE
    while table.alive(pid, start):
        assert time.monotonic() < until, f"process {pid} lives"
        time.sleep(0.005)


@pytest.fixture
def beacon() -> Iterator[Beacon]:
    made = Beacon()
    yield made
    process.shutdown()
    made.close()


@pytest.fixture
def env() -> dict[str, str]:
    return process.child_environment({})


@pytest.fixture(scope="module", autouse=True)
def _no_supervisor_left() -> Iterator[None]:
    yield
    process.shutdown()
