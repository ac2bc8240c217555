"""Limits, and that a run leaves nothing behind however it ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.process import Child, Limits, alive, connection, end_tree, run, spawn, table
from tests.process.conftest import PATIENCE, Beacon, wait_gone

ROOT = Path(__file__).parents[2]
FAMILY = ("root", "session", "daemon", "leaf")
LIMITS = Limits(timeout=60, output_bytes=1 << 20, grace=5.0)
QUICK = Limits(timeout=60, output_bytes=1 << 20, grace=0.2)


def keeper_of(child: Child) -> table.Process:
    assert child.pid is not None
    row = table.find(child.pid)
    assert row is not None
    return row


def family(beacon: Beacon, tmp_path: Path, env: dict[str, str], *modes: str, limits: Limits = LIMITS) -> Child:
    child = spawn(beacon.tree(*modes), cwd=tmp_path, env=env, limits=limits)
    beacon.expect(*(name for name in FAMILY if name != "daemon" or "no-daemon" not in modes))
    return child


# -- limits


def test_timeout_ends_the_whole_tree(beacon: Beacon, tmp_path: Path, env: dict[str, str]) -> None:
    child = family(beacon, tmp_path, env, limits=Limits(timeout=1.0, output_bytes=100, grace=5.0))
    done = child.wait(PATIENCE)
    assert done is not None
    assert beacon.living() == []
    assert (done.reason, done.signal, done.error) == ("timeout", 15, "took longer than 1 s")
    assert 1.0 <= done.duration < 5.0, "SIGTERM was enough"


def test_a_tree_that_ignores_sigterm(beacon: Beacon, tmp_path: Path, env: dict[str, str]) -> None:
    child = family(beacon, tmp_path, env, "stubborn", limits=QUICK)
    child.stop()
    done = child.wait(PATIENCE)
    assert done is not None
    assert beacon.living() == []
    assert (done.reason, done.signal) == ("stopped", 9)


def test_what_a_command_leaves_is_ended_with_it(beacon: Beacon, tmp_path: Path, env: dict[str, str]) -> None:
    child = family(beacon, tmp_path, env, "exit")
    done = child.wait(PATIENCE)
    assert done is not None
    assert beacon.living() == []
    assert (done.reason, done.exit_code) == ("exited", 3)


def test_exit_0_on_sigterm_is_no_success(tmp_path: Path, env: dict[str, str]) -> None:
    code = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    done = run(["sh", "-c", code], cwd=tmp_path, env=env, limits=Limits(timeout=0.5, output_bytes=100))
    assert (done.reason, done.exit_code, done.ok) == ("timeout", 0, False)


@pytest.mark.parametrize("argv", [["yes"], ["dd", "if=/dev/zero", "bs=1M", "count=100000"]])
def test_output_limit_is_exact(tmp_path: Path, env: dict[str, str], argv: list[str]) -> None:
    log = tmp_path / "log"
    limits = Limits(timeout=60, output_bytes=3_000_000, grace=1.0)
    done = run(argv, cwd=tmp_path, env=env, limits=limits, log_path=log)
    assert (done.reason, done.ok) == ("output_limit", False)
    assert log.stat().st_size == 3_000_000
    assert done.duration < 30


def test_output_limit_counts_for_a_command_that_has_already_ended(tmp_path: Path, env: dict[str, str]) -> None:
    argv = ["printf", "12345"]
    limits = Limits(timeout=60, output_bytes=4)
    assert run(argv, cwd=tmp_path, env=env, limits=limits).reason == "output_limit"
    done = run(argv, cwd=tmp_path, env=env, limits=Limits(timeout=60, output_bytes=5))
    assert (done.ok, done.tail) == (True, "12345")


def test_a_chatty_command_loses_nothing(tmp_path: Path, env: dict[str, str]) -> None:
    code = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    log = tmp_path / "log"
    done = run(["sh", "-c", code], cwd=tmp_path, env=env, limits=LIMITS, log_path=log)
    assert done.ok
    assert log.read_text().splitlines() == [f"line {number}" for number in range(20000)]


# -- kill -9, of each level and of several


PARENT = """
import json, os, signal, sys, threading
from pathlib import Path
from orchestrator.process import Limits, child_environment, spawn
limits = Limits(timeout=600, output_bytes=1 << 20, grace=0.3)
env = child_environment({"MAF_TEST_MARK": sys.argv[1]})
def one():
    child = spawn(sys.argv[3:], cwd=Path("/"), env=env, limits=limits)
    print(child.pid, child.start_time, flush=True)
for _ in range(int(sys.argv[2])):
    threading.Thread(target=one).start()
signal.pause()
"""


def parent(mark: str, count: int, argv: list[str]) -> subprocess.Popen[str]:
    """A process that does as maf does: launches, and waits."""
    return subprocess.Popen(
        [sys.executable, "-c", PARENT, mark, str(count), *argv],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MAF_TEST_MARK": mark},  # its helpers inherit the mark
        stdout=subprocess.PIPE,
        text=True,
    )


def recorded(maf: subprocess.Popen[str]) -> tuple[int, str]:
    assert maf.stdout is not None
    pid, start = maf.stdout.readline().split()
    return int(pid), start


@pytest.mark.parametrize("stubborn", [[], ["stubborn"]])
def test_kill_9_of_maf(beacon: Beacon, stubborn: list[str]) -> None:
    with parent("x", 1, beacon.tree(*stubborn)) as maf:
        beacon.expect(*FAMILY)
        pid, start = recorded(maf)
        supervisor = table.find(table.snapshot()[pid].parent)
        assert supervisor is not None
        maf.kill()
    beacon.gone()
    wait_gone(pid, start)
    wait_gone(supervisor.pid, supervisor.start)


def test_kill_9_of_maf_and_its_supervisor(beacon: Beacon) -> None:
    with parent("x", 1, beacon.tree()) as maf:
        beacon.expect(*FAMILY)
        pid, start = recorded(maf)
        supervisor = table.find(table.snapshot()[pid].parent)
        assert supervisor is not None
        assert table.send(supervisor, signal.SIGKILL)
        maf.kill()
    beacon.gone()
    wait_gone(pid, start)


def test_kill_9_of_the_supervisor(beacon: Beacon, tmp_path: Path, env: dict[str, str]) -> None:
    child = family(beacon, tmp_path, env)
    os.kill(keeper_of(child).parent, signal.SIGKILL)
    done = child.wait(PATIENCE)
    assert done is not None
    assert beacon.living() == [], "lost is said when nothing is left"
    assert (done.reason, done.exit_code, done.ok) == ("lost", None, False)
    assert run(["true"], cwd=tmp_path, env=env, limits=LIMITS).ok, "the next launch starts another"


@pytest.mark.skipif(not table.LINUX, reason="needs a subreaper")
def test_kill_9_of_a_keeper(beacon: Beacon, tmp_path: Path, env: dict[str, str]) -> None:
    bystander = spawn(["sleep", "600"], cwd=tmp_path, env=env, limits=LIMITS)
    child = family(beacon, tmp_path, env, "stubborn")
    os.kill(keeper_of(child).pid, signal.SIGKILL)
    done = child.wait(PATIENCE)
    assert done is not None
    assert beacon.living() == []
    assert done.reason == "lost"
    assert bystander.poll() is None
    bystander.stop()
    assert bystander.wait(PATIENCE) is not None


@pytest.mark.skipif(not table.LINUX, reason="reads /proc")
def test_kill_9_of_maf_at_any_moment() -> None:
    """Also while the supervisor starts and while keepers are being forked."""
    chance = random.Random(20)
    for attempt in range(12):
        mark = f"moment-{os.getpid()}-{attempt}"
        argv = ["sh", "-c", "setsid sh -c 'sleep 60 & sleep 60' & (setsid sleep 60 &); sleep 60"]
        with parent(mark, 6, argv) as maf:
            if attempt % 3:
                recorded(maf)
            time.sleep(chance.uniform(0, 0.05 if attempt % 3 else 0.2))  # the moment, not a synchronisation
            maf.kill()
        until = time.monotonic() + PATIENCE
        while left := marked(mark):
            assert time.monotonic() < until, left
            time.sleep(0.01)


def marked(mark: str) -> list[int]:
    """Live processes with this mark in their environment."""
    found = []
    for pid in table.snapshot():
        try:
            if f"MAF_TEST_MARK={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found


def test_shutdown_ends_everything(beacon: Beacon, tmp_path: Path, env: dict[str, str]) -> None:
    child = family(beacon, tmp_path, env)
    keeper = keeper_of(child)
    connection.shutdown()
    assert beacon.living() == []
    assert not alive(keeper.parent, getattr(table.find(keeper.parent), "start", ""))
    done = child.poll()
    assert done is not None
    assert (done.reason, done.error) == ("stopped", "maf went away")


# -- what an earlier maf left


def test_end_tree_by_the_recorded_pair(beacon: Beacon, tmp_path: Path, env: dict[str, str]) -> None:
    child = family(beacon, tmp_path, env, "stubborn", limits=Limits(timeout=None, output_bytes=100, grace=60))
    assert child.pid is not None
    assert child.start_time is not None
    assert end_tree(child.pid, child.start_time, grace=0.1)
    beacon.gone()
    assert not alive(child.pid, child.start_time)
    assert end_tree(child.pid, child.start_time), "ending what has ended is done at once"


def test_a_reused_pid_is_never_signalled() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:  # ends when the test lets go of it
        row = table.find(stranger.pid)
        assert row is not None
        assert alive(row.pid, row.start)
        earlier = row._replace(start="1@" + row.start.partition("@")[2])
        assert not alive(earlier.pid, earlier.start)
        assert not table.send(earlier, signal.SIGKILL)
        assert end_tree(earlier.pid, earlier.start, grace=0.0)
        assert stranger.poll() is None
        assert table.find(row.pid) == row


def test_a_zombie_is_not_alive() -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert table.find(ended.pid) is None


# -- systems without /proc and without subreapers


def test_the_table_of_ps_says_the_same() -> None:
    rows = table._from_ps(("-ax",))
    mine = rows[os.getpid()]
    assert (mine.parent, mine.group) == (os.getppid(), os.getpgrp())
    assert table._from_ps(("-p", str(os.getpid())))[os.getpid()] == mine
    assert mine.start.count(":") == 2, "a time, to the second"


def test_without_a_subreaper_the_tree_is_followed(
    beacon: Beacon, tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.shutdown()
    code = (
        f"import sys; sys.path.append({str(ROOT)!r}); from orchestrator.process import kernel, supervisor;"
        "kernel.become_subreaper = lambda: False; supervisor.main(int(sys.argv[1]))"
    )
    monkeypatch.setattr(connection, "command", lambda fd: [sys.executable, "-I", "-S", "-c", code, str(fd)])
    child = family(beacon, tmp_path, env, "stubborn", "no-daemon", limits=QUICK)
    child.stop()
    done = child.wait(PATIENCE)
    assert done is not None
    assert done.reason == "stopped"
    beacon.gone()
    connection.shutdown()
