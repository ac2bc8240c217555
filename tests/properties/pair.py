"""One call on both sides: the service and the model, and what a right call of each kind takes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import note
from hypothesis.stateful import RuleBasedStateMachine

from orchestrator.domain import lifecycle as lc
from orchestrator.domain import moments
from orchestrator.domain.errors import MafError
from orchestrator.service import context, reviews, sessions, stories, waves
from orchestrator.store import open_store, schema
from tests.properties.model_board import Board

START = "2026-01-01T00:00:00.000000Z"
RAN, BROKE = {"command": ["true"], "exit_code": 0}, {"command": ["true"], "exit_code": 1}
TICK = 10
TTLS = (305, 4005, 28805)  # never a multiple of a tick: nothing ends at the very moment of a call
AGENTS = {
    "cto": ("cto", None), "pm": ("pm", None), "pm-2": ("pm", None), "qa-1": ("qa", None), "qa-2": ("qa", "core"),
    "dev-1": ("dev", "core"), "dev-2": ("dev", "core"), "dev-3": ("dev", None), "dev-4": ("dev", "ui"),
}  # fmt: skip
DEVS = [agent for agent, (role, _) in AGENTS.items() if role == lc.Role.DEV]
ANYBODY = [*AGENTS, "ghost", "maf", "user"]
WAVES, STORIES = ["W1", "W2", "W3", "W4"], [f"S-{n}" for n in range(1, 10)]
EARLY = -1.0  # before anything was paused

STORY_CALLS = {
    "approve": lambda c, code, _: stories.approve(c, code),
    "assign": lambda c, code, x: stories.assign(c, code, x["to"]),
    "start": lambda c, code, _: stories.start(c, code, branch=f"feature/{code}", base="0" * 40),
    "advance": lambda c, code, x: stories.advance(
        c, code, gate=x["gate"], evidence=x["evidence"], checked_since=x["began"]
    ),
    "submit": lambda c, code, x: stories.submit(
        c, code, commit=x["commit"], evidence=x["evidence"], checked_since=x["began"]
    ),
    "pass": lambda c, code, x: reviews.qa_pass(
        c, code, commit=x["commit"], evidence=x["evidence"], checked_since=x["began"]
    ),
    "reject": lambda c, code, _: reviews.qa_reject(c, code, findings=["it does not"]),
    "accept": lambda c, code, _: reviews.accept(c, code),
    "return": lambda c, code, _: reviews.give_back(c, code, reason="not what was asked for"),
    "integrate": lambda c, code, x: reviews.integrate(
        c, code, commit=x["commit"], evidence={**x["evidence"], "tree": "t", "target_tip": "x"},
        checked_since=x["began"],
    ),
    "re-integrate": lambda c, code, _: reviews.reintegrate(c, code, reason="the target moved"),
    "merge": lambda c, code, x: reviews.merge(
        c, code, merge_commit="e" * 40, evidence={**x["evidence"], "began": x["began"]}
    ),
    "refuse": lambda c, code, _: reviews.refuse(c, code, reason="a conflict"),
    "release": lambda c, code, _: stories.release(c, code, reason="somebody else shall"),
    "fail": lambda c, code, _: stories.fail(c, code, reason="it cannot be done"),
    "reopen": lambda c, code, _: stories.reopen(c, code),
}  # fmt: skip
assert set(STORY_CALLS) == set(lc.STORY_ACTIONS)
WAVE_CALLS = {
    "start": lambda c, code, _: waves.start(c, code),
    "pause": lambda c, code, _: waves.pause(c, code),
    "resume": lambda c, code, _: waves.resume(c, code),
    "fail": lambda c, code, _: waves.fail(c, code, reason="no use"),
    "retry": lambda c, code, without: waves.retry(c, code, without=without),
}
assert set(WAVE_CALLS) == set(lc.WAVE_ACTIONS) - {"complete"}


class Pair(RuleBasedStateMachine):
    """The service over a fresh store, and the model of it."""

    new_url = None  # a function: the URL of another empty store
    counted = None  # a dict that the test reads: runs, steps, accepted, refused

    def __init__(self):
        super().__init__()
        url = self.new_url()
        schema.create(url)
        self.store = open_store(url, clock=lambda: moments.after(START, self.model.now))
        if self.store.engine.name == "sqlite":
            self.store.engine.connection.execute("PRAGMA synchronous = OFF")  # no power fails in here
        self.ctx = context.Context(self.store)
        self.model, self.trial = Board(), Board()
        self.counter = 0
        self.counted["runs"] += 1

    # --- one call on both ----------------------------------------------------------------------------------

    def tick(self):
        """Time goes on; the trial is what the model will be if the call is accepted: swept, then changed."""
        self.model.now += TICK
        self.trial = self.model.copy()
        self.trial.sweep()

    def check(self, what, faults, call, effect, *, who=None):
        """The call is refused with one of ``faults``, or where there is none accepted, with ``effect`` on the model."""
        note(f"{self.model.now:.0f} s: {what} expects {sorted(faults) or 'acceptance'}")
        self.counted["steps"] += 1
        refusal = result = None
        try:
            result = call()
        except MafError as error:
            refusal = error
        if refusal is not None:
            self.counted["refused"] += 1
            said = f"{type(refusal).__name__} {refusal.message}"
            assert refusal.exit_code in faults, f"{what}: {said}; expected {faults or 'acceptance'}"
            assert refusal.hint, f"{what}: {said} names no next step"
            return None
        self.counted["accepted"] += 1
        assert not faults, f"{what} was accepted; expected exit {faults}"
        if who is not None:
            self.trial.seen(who)
        effect()
        self.model = self.trial
        return result

    def acting(self, who, **more):
        return replace(self.ctx.acting(who), **more)

    def one(self, data, strategy, label):
        return data.draw(strategy, label=label)

    def register(self, agent, role, domain, *, ttl, takeover=False, launched_by="hand"):
        self.tick()
        self.check(
            f"register {agent} as {role}/{domain} for {ttl} s, takeover {takeover}",
            self.trial.faults_register(agent, role, takeover),
            lambda: sessions.register(
                self.ctx, agent, role, domain=domain, ttl=ttl, takeover=takeover, launched_by=launched_by
            ),
            lambda: self.trial.register(agent, role, domain, ttl, runner=launched_by == "runner"),
        )

    def add_wave(self, who, code, after, *, manual):
        self.tick()
        self.check(
            f"{who} adds wave {code} after {after}",
            self.trial.faults_add_wave(who, code, after),
            lambda: waves.add(self.acting(who), code, name=code, after=after, manual=manual),
            lambda: self.trial.add_wave(code, after, manual=manual),
            who=who,
        )

    def add_story(self, who, code, wave, after, *, domain="core", priority=1, criteria=True):
        self.tick()
        self.check(
            f"{who} adds {code} ({domain}) to {wave} after {after}",
            self.trial.faults_add_story(who, code, wave, after),
            lambda: stories.add(
                self.acting(who), code, wave, title=code, domain=domain, priority=priority, after=after,
                criteria=["it works"] if criteria else [],
            ),
            lambda: self.trial.add_story(code, wave, after, domain=domain, priority=priority, criteria=criteria),
            who=who,
        )  # fmt: skip

    # --- stories ---------------------------------------------------------------------------------------------

    def plausible(self):
        """Every call on a story that its status and gate invite: (action, who of a right role, code, what it takes)."""
        found = []
        for code, story in self.trial.stories.items():
            for name, action in lc.STORY_ACTIONS.items():
                if story.status not in action.frm or (action.gates and story.gate not in action.gates):
                    continue
                # The table's "maf" is `next` and `wave retry` in these two.
                roles = set(action.by) - ({lc.TOOL} if name in ("assign", "reopen") else set())
                doers = [a for a, (role, _) in AGENTS.items() if role in roles] + [lc.TOOL] * (lc.TOOL in roles)
                found += [
                    (name, who, code, self.takes(name, code, who, to=to))
                    for who in doers
                    for to in (DEVS if name == "assign" else [None])
                ]
        return found

    def legal(self):
        """Those of them that would be accepted."""
        return [
            (name, who, code, more)
            for name, who, code, more in self.plausible()
            if not self.trial.faults(name, who, code, **self.for_model(more))
        ]

    def takes(self, name, code, who, *, to=None):
        """What a right call of the action takes."""
        story, session = self.trial.stories.get(code), self.trial.sessions.get(who)
        token = story.open[2] if story and story.open and lc.STORY_ACTIONS[name].fenced else None
        return {
            "to": to, "gate": story.gate if story else 1, "evidence": RAN, "since": None,
            "commit": f"{self.counter + 1:040x}" if name == "submit" or not story else story.commit or "f" * 40,
            "token": token if session and session.runner else None, "epoch": None,
        }  # fmt: skip

    def for_model(self, more):
        return {**{k: v for k, v in more.items() if k != "evidence"}, "proof": more["evidence"] is RAN}

    def story_call(self, name, who, code, more, *, key=None):
        began = None if more["since"] is None else moments.after(START, more["since"])
        ctx = self.acting(who, token=more["token"], epoch=more["epoch"], key=key)
        return STORY_CALLS[name](ctx, code, {**more, "began": began})

    def do(self, name, who, code, more, *, key=None):
        self.counter += 1
        what = f"{who}: {name} {code} { ({k: v for k, v in more.items() if v is not None and k != 'evidence'}) }"
        return self.check(
            what,
            self.trial.faults(name, who, code, **self.for_model(more)),
            lambda: self.story_call(name, who, code, more, key=key),
            lambda: (self.trial.act(name, who, code, **more), self.counted["actions"].update([name])),
            who=who,
        )
