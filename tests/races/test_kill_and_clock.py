"""Writers killed at any moment lose nothing that they were told is written; a wrong clock wins and loses nothing."""

import contextlib
import os
import random
import signal
import time

import pytest

from orchestrator.service import sessions, stories
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
    """A process that writes until it is killed, and what it has said so far is written."""

    def __init__(self, url, number):
        self.reader, writer = processes.Pipe(duplex=False)
        self.process = processes.Process(target=workers.write_until_killed, args=(url, number, writer), daemon=True)
        self.process.start()
        writer.close()
        self.said = []

    def read(self):
        with contextlib.suppress(EOFError, OSError):  # a message that was cut off was not said
            while self.reader.poll():
                self.said.append(self.reader.recv())

    def kill(self):
        self.process.kill()
        self.process.join()
        self.read()
        self.reader.close()
        assert self.process.exitcode == -signal.SIGKILL, f"a writer ended by itself with {self.process.exitcode}"
        return self.said


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
            # What was acknowledged after every kill; all invariants now and then, as the other writers' log only grows.
            if kill % (KILLS // 5) == 0:
                assert_invariants(arena.ctx)
            writers[number] = Writer(arena.url, number)
    finally:
        for writer in writers:
            acknowledged += len(writer.kill())
    record_property("acknowledged", acknowledged)
    assert acknowledged > KILLS, "the writers hardly wrote: this run has shown little"
    assert_invariants(arena.ctx)


@pytest.mark.parametrize("store_kind", ["postgres"], indirect=True)
def test_a_wrong_clock_neither_steals_nor_loses_a_lease(arena):
    ttl, offsets = 3, {"dev-ahead": 600, "dev-behind": -600, "dev-right": 0}
    out, stop = processes.Queue(), processes.Event()
    started = []
    for agent, offset in offsets.items():
        ready = processes.Semaphore(0)
        args = (arena.url, offset, agent, ttl, ready, stop, out)
        started.append(processes.Process(target=workers.with_wrong_clock, args=args, daemon=True))
        started[-1].start()
        assert ready.acquire(timeout=60)
    sessions.register(arena.ctx, "dev-silent", "dev", ttl=ttl)
    for agent in (*offsets, "dev-silent"):
        arena.story(f"of-{agent}", "W", approved=True)
        stories.assign(arena.ctx.acting("pm"), f"of-{agent}", agent)
    time.sleep(ttl + 2)
    held = set(arena.rows("SELECT agent_id FROM assignments WHERE ended_at IS NULL"))
    stop.set()
    assert dict(out.get(timeout=60) for _ in started) == {agent: [] for agent in offsets}  # nobody lost a live lease
    for process in started:
        process.join(60)
    # The silent one's lease ran out by the server's clock, which assert_invariants holds, and nobody else's.
    assert held == {(agent,) for agent in offsets}
    time.sleep(ttl + 0.5)
    arena.story("sweeps", "W")
    assert arena.rows("SELECT COUNT(*) FROM assignments WHERE ended_at IS NULL") == [(0,)]  # nor does a clock keep one
    assert_invariants(arena.ctx)
