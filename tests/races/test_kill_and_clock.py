"""Writers killed at any moment lose nothing that they were told is written; a wrong clock wins and loses nothing."""

import contextlib
import os
import random
import signal
import time

import pytest

from orchestrator.service import invariants, sessions, stories
from tests.races import workers
from tests.races.conftest import processes
from tests.support.invariants import assert_invariants
from tests.support.soak import count

pytestmark = pytest.mark.timeout(3600)
KILLS, WRITERS = count(300, 20), 3

STORED = {
    "agent": "SELECT agent_id FROM agent_sessions",
    "story": "SELECT story_code FROM stories",
    "signal": "SELECT id FROM signals",
    "token": "SELECT s.story_code || ':' || a.fencing_token FROM assignments a JOIN stories s ON s.id = a.story_id",
    "gate": """SELECT s.story_code || ':1' FROM stories s WHERE s.started_at IS NOT NULL UNION ALL
               SELECT s.story_code || ':' || g.to_gate FROM gate_transitions g JOIN stories s ON s.id = g.story_id""",
    "failed": "SELECT story_code FROM stories WHERE status = 'failed'",
}


class Writer:
    def __init__(self, url, number):
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.told = b""
        # fork: the pipe is inherited; nothing of this process's store is touched in the child.
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.reader)
                workers.write_until_killed(url, number, writer)
            finally:
                os._exit(3)
        os.close(writer)

    def read(self):
        """Whether it still writes; gathers what it says is written."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.reader, 65536):
                self.told += part

    def kill(self):
        """The lines that it has finished saying."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.read()
        os.close(self.reader)
        assert os.WIFSIGNALED(status), f"a writer ended by itself with {os.waitstatus_to_exitcode(status)}"
        return [line.split(" ", 1) for line in self.told.decode().rpartition("\n")[0].splitlines()]


def test_no_acknowledged_write_is_lost(arena, record_property):
    seed = int(os.environ.get("MAF_SEED") or random.randrange(2**32))
    record_property("seed", seed)
    record_property("kills", KILLS)
    print(f"seed {seed}: MAF_SEED={seed} repeats the moments")
    moment = random.Random(seed)
    writers = [Writer(arena.url, n) for n in range(WRITERS)]
    acknowledged = 0
    try:
        for kill in range(KILLS):
            number = moment.randrange(WRITERS)
            until = time.monotonic() + moment.uniform(0.0, 0.25)
            while time.monotonic() < until:
                for writer in writers:
                    writer.read()
                time.sleep(0.005)
            said = writers[number].kill()
            acknowledged += len(said)
            for kind, sql in STORED.items():
                missing = {name for what, name in said if what == kind} - {str(row[0]) for row in arena.rows(sql)}
                assert not missing, f"acknowledged but not there after kill {kill}: {kind} {missing}"
            # The queries after every kill; the whole log replayed now and then, as it only grows.
            if kill % 10 == 9:
                assert_invariants(arena.ctx)
            else:
                assert not invariants.failed(invariants.check(arena.ctx, replay=False))
            writers[number] = Writer(arena.url, number)
    finally:
        for writer in writers:
            with contextlib.suppress(ProcessLookupError, AssertionError, OSError):
                acknowledged += len(writer.kill())
    record_property("acknowledged", acknowledged)
    assert acknowledged > KILLS, "the writers hardly wrote: this run has shown little"
    assert_invariants(arena.ctx)


@pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
def test_a_wrong_clock_neither_steals_nor_loses_a_lease(arena):
    ttl, seconds = 2, 5
    for agent in ("dev-ahead", "dev-behind", "dev-right"):
        sessions.register(arena.ctx, agent, "dev", ttl=ttl)
    sessions.register(arena.ctx, "dev-silent", "dev", ttl=ttl)
    out = processes.Queue()
    started = [
        processes.Process(target=workers.with_wrong_clock, args=(arena.url, offset, agent, seconds, out), daemon=True)
        for agent, offset in (("dev-ahead", 600), ("dev-behind", -600), ("dev-right", 0))
    ]
    for number, agent in enumerate(("dev-ahead", "dev-behind", "dev-right", "dev-silent")):
        arena.story(f"S-{number}", "W", approved=True)
        stories.assign(arena.ctx.acting("pm"), f"S-{number}", agent)
    for process in started:
        process.start()
    failures = dict(out.get(timeout=60) for _ in started)
    for process in started:
        process.join(60)
    assert failures == {"dev-ahead": [], "dev-behind": [], "dev-right": []}  # nobody lost a lease that was renewed
    holders = dict(arena.rows("SELECT s.story_code, a.agent_id FROM assignments a JOIN stories s ON s.id = a.story_id"
                              " WHERE a.ended_at IS NULL"))  # fmt: skip
    # The silent one's lease ran out by the server's clock, and only then; no clock kept it or took another's.
    assert holders == {"S-0": "dev-ahead", "S-1": "dev-behind", "S-2": "dev-right"}
    epoch = arena.rows("SELECT started_at, ended_at FROM agent_epochs WHERE agent_id = 'dev-silent'")
    assert (epoch[0][1], epoch[0][0]) != (None, None)
    time.sleep(ttl + 0.5)
    arena.story("S-9", "W", approved=True)  # any exclusive write sweeps
    assert arena.rows("SELECT COUNT(*) FROM assignments WHERE ended_at IS NULL") == [(0,)]  # nor does a clock keep one
    assert_invariants(arena.ctx)
