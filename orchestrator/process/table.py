"""The process table: who descends from whom, who is still the process that was recorded.

A process is (pid, start): a pid alone may have gone to somebody else. ``start`` is an opaque string that
differs for every process that ever had the pid, also across a reboot. Linux reads /proc; other systems ask
``ps``. Nothing here signals a process without having compared its start.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

LINUX = sys.platform == "linux"


class Process(NamedTuple):
    """One row of the table; zombies have no row: they hold nothing and cannot be ended."""

    pid: int
    parent: int
    group: int
    start: str


def find(pid: int) -> Process | None:
    """The live process with this pid, if any."""
    if pid <= 0:
        return None
    return _from_stat(pid) if LINUX else _from_ps(("-p", str(pid))).get(pid)


def snapshot() -> dict[int, Process]:
    """Every live process by pid. Not atomic: who must be sure takes another one."""
    if not LINUX:
        return _from_ps(("-ax",))
    rows = (_from_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return {row.pid: row for row in rows if row is not None}


def descendants(table: dict[int, Process], roots: Iterable[int], skip: frozenset[int] = frozenset()) -> list[Process]:
    """Everything below ``roots``, parents before children; ``skip`` prunes whole subtrees."""
    children: dict[int, list[Process]] = {}
    for row in table.values():
        children.setdefault(row.parent, []).append(row)
    found: dict[int, Process] = {}
    queue = list(roots)
    while queue:
        for row in children.get(queue.pop(), ()):
            if row.pid not in found and row.pid not in skip:
                found[row.pid] = row
                queue.append(row.pid)
    return list(found.values())


def alive(pid: int, start_time: str) -> bool:
    """Whether the process recorded as (pid, start_time) still runs; False when the pid is another's now."""
    row = find(pid)
    return row is not None and row.start == start_time


def send(process: Process, number: int) -> bool:
    """Signal exactly this process. False when it is gone, its pid is another's, or we may not signal it."""
    try:
        if sys.platform == "linux" and hasattr(os, "pidfd_open"):
            # The descriptor is bound before the comparison: whoever gets the pid afterwards is not signalled.
            descriptor = os.pidfd_open(process.pid)
            try:
                if not alive(process.pid, process.start):
                    return False
                signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
        else:
            if not alive(process.pid, process.start):
                return False
            os.kill(process.pid, number)
    except OSError:
        return False
    return True


def end_tree(pid: int, start_time: str, grace: float = 2.0) -> bool:
    """End the process recorded as (pid, start_time) and all its descendants; for what an earlier maf left.

    SIGTERM, up to ``grace`` seconds, then SIGKILL, for at most 5 s more. True when nothing of it is left
    (also when it had ended before, or the pid now belongs to a foreign process, which is not touched).
    """
    seen: dict[int, Process] = {}

    def living() -> list[Process]:
        """Live members, the root last: it adopts what the others leave behind."""
        table = snapshot()
        roots = [row for row in seen.values() if table.get(row.pid, row._replace(start="")).start == row.start]
        for row in descendants(table, [row.pid for row in roots]):
            seen[row.pid] = row
        members = [row for row in seen.values() if table.get(row.pid, row._replace(start="")).start == row.start]
        return sorted(members, key=lambda row: row.pid == pid)

    root = find(pid)
    if root is None or root.start != start_time:
        return True
    if pid == os.getpid():
        return False
    seen[pid] = root
    for row in living():
        send(row, signal.SIGTERM)
    kill_at = time.monotonic() + grace
    give_up_at = kill_at + 5.0
    pause = 0.005
    while members := living():
        now = time.monotonic()
        if now >= give_up_at:
            return False
        if now >= kill_at:
            # The root goes only when it is alone: killed earlier, its adopted children would be lost to init.
            for row in members if len(members) == 1 else members[:-1]:
                send(row, signal.SIGKILL)
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return True


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def _from_stat(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # The command name in parentheses may hold anything, parentheses and newlines included.
            fields = file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return None
    return Process(pid, int(fields[1]), int(fields[2]), f"{int(fields[19])}@{_boot()}")


def _from_ps(select: tuple[str, ...]) -> dict[int, Process]:
    import subprocess

    asked = subprocess.run(
        ["ps", *select, "-o", "pid=,ppid=,pgid=,stat=,lstart="],
        env={"PATH": "/bin:/usr/bin:/usr/sbin", "LC_ALL": "C", "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    table: dict[int, Process] = {}
    for line in asked.stdout.splitlines():
        fields = line.split(None, 4)
        if len(fields) == 5 and not fields[3].startswith("Z"):
            pid, parent, group = (int(field) for field in fields[:3])
            table[pid] = Process(pid, parent, group, " ".join(fields[4].split()))
    return table
