"""A store with a bit of everything in it, made through the use cases."""

from orchestrator.service import context, reviews, runs, sessions, signals, stories, waves
from orchestrator.store import open_store, schema

RAN = {"command": ["true"], "exit_code": 0}


class Board:
    """A store with a bit of everything in it, all of it right."""

    def __init__(self, url, commit=None):
        schema.create(url)
        self.store = open_store(url)
        self.user = context.Context(self.store)
        self.commit = commit or (lambda code, attempt: f"{sum(map(ord, code)):020x}{attempt:020x}")
        self.merge = lambda code, _submitted: f"{sum(map(ord, code)):040x}"

    def of(self, agent):
        return self.user.acting(agent)

    def sql(self, *statements):
        """Write behind maf's back: no checks, triggers or foreign keys in the way where a statement asks for it."""
        for statement in statements:
            self.store.engine.connection.execute(statement)

    def add(self, code, wave, **more):
        stories.add(self.user, code, wave, title=f"Make {code}", domain="core", criteria=["it works"], **more)
        stories.approve(self.of("cto"), code)

    def work(self, code, dev, attempt=1):
        """From in_progress before gate 1 or 2 to qa_review."""
        gate = stories.show(self.user, code)["current_gate"]
        for number in range(gate, 3):
            stories.advance(self.of(dev), code, gate=number, evidence=RAN)
        stories.submit(self.of(dev), code, commit=self.commit(code, attempt), evidence=RAN)

    def take(self, code, dev):
        stories.assign(self.of("pm"), code, dev)
        stories.start(self.of(dev), code, branch=f"feature/{code}", base="0" * 40)

    def finish(self, code, attempt=1):
        """From qa_review to completed."""
        commit = self.commit(code, attempt)
        reviews.qa_pass(self.of("qa-1"), code, commit=commit, evidence=RAN)
        reviews.accept(self.of("pm"), code)
        tool = self.of("maf")
        reviews.integrate(tool, code, commit=commit, evidence={**RAN, "tree": "t", "target_tip": "x"})
        reviews.reintegrate(tool, code, reason="the target moved")
        reviews.integrate(tool, code, commit=commit, evidence={**RAN, "tree": "t", "target_tip": "y"})
        reviews.merge(self.of("cto"), code, merge_commit=self.merge(code, commit), evidence=RAN)


def fill(board):
    """W0 completed with S-0; W1 active: S-1 merged after a release and a reject, S-2 and S-5 held, S-3, S-4; W2."""
    for agent, role in (("cto", "cto"), ("pm", "pm"), ("dev-1", "dev"), ("dev-2", "dev"), ("qa-1", "qa")):
        sessions.register(board.user, agent, role)
    pm = board.of("pm")
    waves.add(board.user, "W0", name="Zero")
    waves.add(board.user, "W1", name="One", after=["W0"])
    waves.add(board.user, "W2", name="Two")
    board.add("S-0", "W0")
    board.add("S-4", "W1")
    waves.start(pm, "W0")
    board.take("S-0", "dev-1")
    board.work("S-0", "dev-1")
    board.finish("S-0")
    board.add("S-1", "W1")
    board.take("S-1", "dev-2")
    stories.release(pm, "S-1", reason="somebody else shall")
    board.take("S-1", "dev-1")
    board.work("S-1", "dev-1")
    reviews.qa_reject(board.of("qa-1"), "S-1", findings=["wrong"])
    board.work("S-1", "dev-1", attempt=2)
    board.finish("S-1", attempt=2)
    board.add("S-2", "W1", after=["S-0"])
    board.add("S-3", "W1", after=["S-2"])
    board.add("S-5", "W1")
    stories.assign(pm, "S-2", "dev-2")
    stories.assign(pm, "S-5", "dev-1")
    sent = signals.send(board.of("dev-1"), "help_needed", {"question": "why?"})
    signals.acknowledge(pm, sent["id"])
    signals.done(pm, sent["id"])
    tool = board.of("maf")
    runs.begin(tool, "dev-1", epoch=1, role="dev", story="S-5", token=1, vm=None, log_path="log")
    keyed = context.Context(board.store, agent="dev-2", key="once")
    signals.send(keyed, "help_needed", {"question": "which?"})
    return board
