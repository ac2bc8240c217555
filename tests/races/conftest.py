import multiprocessing

import pytest

from orchestrator.service import context, sessions, stories, waves
from orchestrator.store import open_store, schema

# forkserver: processes of their own without the test's threads and connections, and quicker than spawn.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["tests.races.workers"])
LONG = 400


class Arena:
    """A store with a CTO, a PM and an active wave, and processes let loose on it."""

    def __init__(self, url):
        self.url = url
        schema.create(url)
        self.store = open_store(url)
        engine = self.store.engine
        if engine.name == "sqlite":
            engine.connection.execute("PRAGMA synchronous = OFF")  # the set-up only; the racers keep what they write
        self.ctx = context.Context(self.store)
        for agent, role in (("cto", "cto"), ("pm", "pm"), ("qa", "qa")):
            sessions.register(self.ctx, agent, role)
        self.wave("W")

    def wave(self, code):
        waves.add(self.ctx, code, name=code)
        self.story(f"{code}-keeps-it-active", code)
        waves.start(self.ctx.acting("pm"), code)

    def story(self, code, wave, *, approved=False):
        stories.add(self.ctx, code, wave, title=code, domain="core", criteria=["it works"])
        if approved:
            stories.approve(self.ctx.acting("cto"), code)

    def devs(self, count):
        for number in range(count):
            sessions.register(self.ctx, f"dev-{number}", "dev")

    def race(self, work, number, *args):
        """``work`` in so many processes at once; what each brought back, or the test fails with their tracebacks."""
        from tests.races import workers

        barrier, out = processes.Barrier(number), processes.Queue()
        started = [
            processes.Process(target=workers.running, args=(self.url, barrier, out, work, n, *args), daemon=True)
            for n in range(number)
        ]
        for process in started:
            process.start()
        results = [out.get(timeout=3000) for _ in started]
        for process in started:
            process.join(60)
        died = [text for how, _, text in results if how == "died"]
        assert not died, "\n".join(died[:3])
        return {n: result for _, n, result in results}

    def rows(self, sql):
        return self.store.engine.raw(sql)[1]


@pytest.fixture
def arena(store_url):
    made = Arena(store_url)
    yield made
    made.store.close()
