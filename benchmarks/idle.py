"""`maf run` that waits for a person: its share of a core, and the memory of its whole process tree."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

from benchmarks import sample
from benchmarks.common import Figure, Place, Size, environment

CPU, MEMORY = 1.0, 120.0
WAITING = '\n[roles.cto]\nmode = "human"\n'


def _processes(mark: str) -> list[int]:
    """Every process that was started with our mark in its environment, wherever it hangs now."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def _ticks(pid: int) -> int:
    """CPU ticks that a process and the children it has waited for have used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(int(field) for field in fields[11:15])


def _kilobytes(pid: int, name: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def measure(place: Place, store: str, size: Size) -> list[Figure]:
    seconds = size.of(20, 20, 1)
    folder = sample.repository(place.new("repository"))
    sample.configure(folder, agents=4, more=WAITING)
    url = place.store(store)
    sample.plan(url, 20)
    mark = f"BENCH_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    log = place.new("log") / "run.jsonl"
    with log.open("wb") as out:
        child = subprocess.Popen(
            sample.maf(url, "run", "--json"), cwd=folder, env=environment() | {name: value},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        _until_waiting(child, log)
        time.sleep(size.of(4, 4, 1))
        pids = _processes(mark)
        before, began = sum(map(_ticks, pids)), time.monotonic()
        time.sleep(seconds)
        ticks, took = sum(map(_ticks, pids)) - before, time.monotonic() - began
        now = _processes(mark)
        rss, pss = (sum(_kilobytes(pid, what) for pid in now) / 1024 for what in ("Rss", "Pss"))
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    share = 100 * ticks / os.sysconf("SC_CLK_TCK") / took
    details = {"seconds": round(took, 1), "processes": len(now), "pss_mb": round(pss, 1)}
    return [
        Figure("idle_cpu", store, "% of a core", share, None, share, CPU, details),
        Figure("idle_memory", store, "MB", rss, None, rss, MEMORY, details),
    ]


def _until_waiting(child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while '"waiting"' not in log.read_text(errors="replace"):
        if child.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"maf run does not wait for anybody:\n{log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.1)
