"""The state machine: every step is one call, on the service and on the model, and then both are compared in full."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from orchestrator.domain import lifecycle as lc
from orchestrator.service import history, sessions, signals, stops, stories, waves
from tests.properties.compare import compare
from tests.properties.model import RULE
from tests.properties.model_board import CHECKED
from tests.properties.pair import AGENTS, ANYBODY, BROKE, EARLY, STORIES, TTLS, WAVE_CALLS, WAVES, Pair
from tests.support.invariants import assert_invariants

pick = st.sampled_from
rarely = st.integers(0, 9).map(lambda n: n == 0)
UNDOING, SETBACKS = ("fail", "release", "reopen"), ("reject", "return", "refuse", "re-integrate")
SPOILT = {"evidence": BROKE, "commit": "d" * 40, "token": 77, "gate": 3, "since": EARLY}


class Machine(Pair):
    # --- the beginning ---------------------------------------------------------------------------------------

    @initialize(data=st.data())
    def begin(self, data):
        for agent in ("cto", "pm", "dev-1", "dev-3", "qa-1"):
            self.register(agent, *AGENTS[agent], ttl=28805)
        for code, after in (("W1", []), ("W2", data.draw(pick([[], ["W1"]])))):
            self.add_wave("user", code, after, manual=False)
        for number in range(1, 6):
            after = data.draw(st.lists(pick(STORIES[: number - 1]), max_size=2, unique=True)) if number > 1 else []
            wave = "W1" if number < 4 else data.draw(pick(["W1", "W2"]))
            self.add_story("user", f"S-{number}", wave, after, domain=data.draw(pick(["core", "core", "ui"])))
        for _ in range(data.draw(st.integers(0, 30))):
            self.go_on(data)
            self.same()

    # --- plans -----------------------------------------------------------------------------------------------

    @rule(who=pick(["user", "user", "pm", "cto", "dev-1", "qa-1"]), code=pick(WAVES), manual=st.booleans(),
          after=st.lists(pick([*WAVES, "W9"]), max_size=2, unique=True))  # fmt: skip
    def more_waves(self, who, code, manual, after):
        self.add_wave(who, code, after, manual=manual)

    @rule(who=pick(["user", "user", "pm", "dev-1"]), code=pick(STORIES), wave=pick([*WAVES, "W9"]),
          after=st.lists(pick([*STORIES, "S-99"]), max_size=2, unique=True), domain=pick(["core", "ui"]),
          priority=st.integers(1, 3), bare=rarely)  # fmt: skip
    def more_stories(self, who, code, wave, after, domain, priority, bare):
        self.add_story(who, code, wave, after, domain=domain, priority=priority, criteria=not bare)

    @rule(who=pick(["user", "pm", "qa-1"]), code=pick([*STORIES, "S-99"]), other=pick(STORIES), back=st.booleans())
    def more_dependencies(self, who, code, other, back):
        self.tick()
        # Turned round, so that circles come up often.
        waiting = [(o, c) for c, s in self.trial.stories.items() for o in s.after] if back else []
        code, other = waiting[0] if waiting else (code, other)
        self.check(
            f"{who} makes {code} wait for {other}",
            self.trial.faults_depend(who, code, other),
            lambda: stories.add_dependency(self.acting(who), code, other),
            lambda: self.trial.depend(code, other),
            who=who,
        )

    # --- stories -----------------------------------------------------------------------------------------------

    def drawn(self, data, choices):
        """One of the calls: the action first, each as likely as the others, but those that lead back more seldom."""
        left_out = self.one(data, pick([(), UNDOING, UNDOING, *[UNDOING + SETBACKS] * 6]), "left out")
        names = sorted({name for name, *_ in choices})
        name = self.one(data, pick([name for name in names if name not in left_out] or names), "action")
        return self.one(data, pick([choice for choice in choices if choice[0] == name]), "call")

    @rule(data=st.data())
    def go_on(self, data):
        self.tick()
        choices = self.legal()
        waiting = [c for c in self.trial.waves if not self.trial.faults_wave("start", "pm", c)]
        if waiting and all(choice[0] in ("approve", *UNDOING) for choice in choices):
            self.start_wave(self.one(data, pick(waiting), "wave"))
        elif choices:
            self.do(*self.drawn(data, choices))

    @rule(data=st.data())
    def go_on_twice_with_one_key(self, data):
        """The second call gets the first one's result, and does nothing but renew the caller's lease."""
        self.tick()
        if choices := self.legal():
            name, who, code, more = self.drawn(data, choices)
            key = f"key-{self.counter}"
            self.do(name, who, code, more, key=key)
            self.story_call(name, who, code, more, key=key)

    @rule(data=st.data())
    def go_plausibly(self, data):
        """What status, gate and role invite, legal or not: another's story, a busy dev, an open dependency, a stop."""
        self.tick()
        if choices := self.plausible():
            name, who, code, more = self.drawn(data, choices)
            session = self.trial.sessions.get(who)
            spoil = self.one(data, pick([None, None, None, *SPOILT, "epoch"]), "spoil")
            if spoil == "epoch" and session is not None:
                more["epoch"] = session.epoch - 1
            elif spoil in SPOILT and (name, spoil) != ("submit", "commit"):
                more[spoil] = SPOILT[spoil]
            self.do(name, who, code, more)

    @rule(data=st.data())
    def go_astray(self, data):
        """Any action by anybody, with what may be wrong in it."""
        self.tick()
        name = self.one(data, pick(list(lc.STORY_ACTIONS)), "action")
        who = self.one(data, pick(ANYBODY if name not in ("assign", "reopen") else [*AGENTS, "ghost", "user"]), "who")
        more = self.takes(name, code := self.one(data, pick([*STORIES, "S-99"]), "code"), who)
        session = self.trial.sessions.get(who)
        more["to"] = self.one(data, pick([*AGENTS, "ghost"]), "to")
        more["gate"] = self.one(data, pick([1, 2, 3]), "gate")
        more["since"] = self.one(data, pick([None, EARLY, self.trial.now]), "since")
        more["token"] = self.one(data, pick([None, more["token"], 1, 2]), "token")
        more["epoch"] = self.one(data, pick([None, session.epoch, session.epoch - 1]), "epoch") if session else None
        if name in CHECKED and self.one(data, rarely, "broke"):
            more["evidence"] = BROKE
        if name != "submit" and self.one(data, rarely, "other commit"):
            more["commit"] = "d" * 40
        self.do(name, who, code, more)

    @rule(who=pick([*AGENTS, "ghost", "user"]), also=pick(["dev-1", "dev-2", "dev-3", "dev-4"]), straight=st.booleans())
    def pull(self, who, also, straight):
        who = also if straight else who
        self.tick()
        best = self.trial.best(who) if who in self.trial.sessions else None
        taken = self.check(
            f"{who}: next",
            self.trial.faults_next(who),
            lambda: stories.next_story(self.acting(who)),
            lambda: self.trial.assign(self.trial.stories[best.code], who, lc.TOOL),
            who=who,
        )
        assert taken is None or (taken["story_code"], taken["token"]) == (best.code, best.token)

    # --- waves -------------------------------------------------------------------------------------------------

    @rule(data=st.data())
    def wave(self, data):
        self.tick()
        names = list(WAVE_CALLS)
        if self.one(data, rarely, "astray"):
            name, who, code = (self.one(data, pick(c), "wave") for c in (names, ANYBODY[:-2], [*WAVES, "W9"]))
        else:
            legal = [(n, w, c) for n in names for w in ("pm", "pm-2") for c in self.trial.waves
                     if not self.trial.faults_wave(n, w, c)]  # fmt: skip
            if not legal:
                return
            name, who, code = self.one(data, pick(legal), "wave")
        without = self.one(data, st.lists(pick([*STORIES, "S-99"]), max_size=1), "without") if name == "retry" else []
        self.check(
            f"{who}: wave {name} {code} without {without}",
            self.trial.faults_wave(name, who, code, without),
            lambda: WAVE_CALLS[name](self.acting(who), code, without),
            lambda: self.trial.act_wave(name, who, code, without),
            who=who,
        )

    def start_wave(self, code):
        self.check(f"pm: wave start {code}", set(), lambda: waves.start(self.acting("pm"), code),
                   lambda: self.trial.act_wave("start", "pm", code), who="pm")  # fmt: skip

    # --- agents ------------------------------------------------------------------------------------------------

    @rule(agent=pick(list(AGENTS)), ttl=pick(TTLS), takeover=rarely, runner=rarely, odd=rarely)
    def agent_registers(self, agent, ttl, takeover, runner, odd):
        role, domain = AGENTS[agent]
        self.register(agent, "qa" if odd else role, domain, ttl=ttl, takeover=takeover,
                      launched_by="runner" if runner else "hand")  # fmt: skip

    @rule(data=st.data())
    def agents_come_back(self, data):
        gone = [a for a in AGENTS if not self.model.live(a)]
        if gone:
            agent = self.one(data, pick(gone), "agent")
            self.register(agent, *AGENTS[agent], ttl=28805)

    @rule(who=pick(ANYBODY), agent=pick([*AGENTS, "ghost"]), itself=st.booleans())
    def agent_ends(self, who, agent, itself):
        self.tick()
        who = agent if itself else who
        self.check(
            f"{who} ends {agent}",
            self.trial.faults_end(who, agent),
            lambda: sessions.end(self.acting(who), agent),
            lambda: self.trial.end(agent),
            who=who,
        )

    @rule(who=pick([*AGENTS, "ghost"]), seconds=pick([10, 50, 300, 1000, 4000]))
    def time_passes(self, who, seconds):
        """Then one agent's heartbeat, which sweeps nobody else."""
        self.model.now += seconds
        self.trial = self.model.copy()
        self.check(f"heartbeat of {who} after {seconds} s", self.trial.faults_actor(who, ()),
                   lambda: sessions.heartbeat(self.acting(who)), lambda: None, who=who)  # fmt: skip

    # --- signals -----------------------------------------------------------------------------------------------

    @rule(data=st.data(), who=pick(ANYBODY[:-2]), kind=pick(["blocked", "blocked", "help_needed", "answer", "answer",
          "emergency_stop", "qa_approved", "wave_started", "nonsense"]),
          to=pick([None, None, None, "pm", "dev-1", "role:dev", "role:dev/ui", "role:cook", "all:dev/core", "all:qa",
                   "ghost"]),
          expires=pick([None, None, 25, 405]), priority=st.integers(1, 3))  # fmt: skip
    def send(self, data, who, kind, to, expires, priority):
        self.tick()
        asked = [s for s in self.trial.signals if s.type in ("blocked", "help_needed", "answer")]
        cause = self.one(data, pick([None, *asked, *asked]), "cause") if kind == "answer" or asked else None
        story = (
            self.one(data, pick([None, None, *STORIES[:4], "S-99"]), "story")
            if kind in ("blocked", "help_needed")
            else None
        )
        said = {"blocked": "reason", "help_needed": "question", "answer": "text", "emergency_stop": "reason"}.get(kind)
        faults = self.trial.faults_send(who, kind, to=to, story=story, cause=cause)
        sent = self.check(
            f"{who} sends {kind} to {to} about {story} in answer to {cause and cause.type}",
            faults,
            lambda: signals.send(
                self.acting(who), kind, {said: "because"} if said else {}, to=to, story=story, priority=priority,
                cause=cause.id if cause else None, expires_in=expires,
            ),
            lambda: self.trial.send(who, kind, to=to, story=story, cause=cause and self.trial_of(cause),
                                    priority=priority, expires_in=expires),
            who=who,
        )  # fmt: skip
        if sent is None and faults == {RULE} and cause and cause.depth >= lc.MAX_CHAIN_DEPTH:
            self.storm(who)

    def trial_of(self, signal):
        return next(s for s in self.trial.signals if s.id == signal.id)

    def storm(self, who):
        alerts = self.store.engine.raw("SELECT COUNT(*) FROM agent_activity WHERE activity_type = 'signal.storm'")[1][
            0
        ][0]
        if alerts > len(self.model.alerts):
            self.model.storm(who)

    @rule(data=st.data(), finish=st.booleans())
    def take(self, data, finish):
        """Acknowledge or finish a signal: mostly one that the agent may, sometimes any."""
        self.tick()
        pairs = [(a, s) for s in self.trial.signals for a in self.trial.sessions if not self.trial.faults_take(a, s)]
        if pairs and not self.one(data, rarely, "astray"):
            who, signal = self.one(data, pick(pairs), "who takes what")
        else:
            who = self.one(data, pick(ANYBODY[:-2]), "who")
            signal = self.one(data, pick([None, *self.trial.signals]), "signal")
        call = signals.done if finish else signals.acknowledge
        self.check(
            f"{who} {'finishes' if finish else 'takes'} {signal and signal.describe()}",
            self.trial.faults_take(who, signal),
            lambda: call(self.acting(who), signal.id if signal else "00000000-0000-7000-8000-000000000000"),
            lambda: (self.trial.done if finish else self.trial.acknowledge)(who, signal),
            who=who,
        )

    @rule(data=st.data(), answers=st.booleans())
    def relieve(self, data, answers):
        """Somebody is blocked, and the PM hears of it or answers."""
        self.tick()
        asked = [s for s in self.trial.signals if s.type in ("blocked", "help_needed") and s.to == "role:pm"]
        if not asked:
            return
        cause = self.one(data, pick(asked), "cause")
        if answers:
            faults = self.trial.faults_send("pm", "answer", to=None, story=None, cause=cause)
            call = lambda: signals.send(self.acting("pm"), "answer", {"text": "so"}, cause=cause.id)  # noqa: E731
            what = {"to": None, "story": None, "cause": cause, "priority": 1, "expires_in": None}
            effect = lambda: self.trial.send("pm", "answer", **what)  # noqa: E731
        else:
            faults = self.trial.faults_take("pm", cause)
            call = lambda: signals.done(self.acting("pm"), cause.id)  # noqa: E731
            effect = lambda: self.trial.done("pm", cause)  # noqa: E731
        self.check(f"pm {'answers' if answers else 'finishes'} {cause.describe()}", faults, call, effect, who="pm")

    @rule(who=pick(["dev-1", "dev-2", "dev-3"]))
    def block(self, who):
        self.tick()
        self.check(
            f"{who} is blocked",
            self.trial.faults_send(who, "blocked", to=None, story=None, cause=None),
            lambda: signals.send(self.acting(who), "blocked", {"reason": "no key"}),
            lambda: self.trial.send(who, "blocked", to=None, story=None, cause=None, priority=1, expires_in=None),
            who=who,
        )

    @rule(who=pick(ANYBODY[:-2]))
    def look(self, who):
        self.tick()
        faults = self.trial.faults_actor(who, ())
        seen = self.check(
            f"{who} looks", faults, lambda: signals.inbox(self.acting(who), size=1000), lambda: None, who=who
        )
        if seen is not None:
            mine = {s.id: self.model.mine(who, s) for s in self.model.signals if self.model.mine(who, s)}
            assert {r["id"] for r in seen["pending"]} == {
                i for i, d in mine.items() if d.status == lc.SignalStatus.PENDING
            }
            assert {r["id"] for r in seen["taken"]} == {
                i for i, d in mine.items() if d.status == lc.SignalStatus.ACKNOWLEDGED and d.taken_by == who
            }
            order = [(r["priority"], r["sent_at"]) for r in seen["pending"]]
            assert order == sorted(order)

    # --- emergency stops ---------------------------------------------------------------------------------------

    @rule(who=pick(["pm", "cto", "cto", "dev-1"]), seldom=st.integers(0, 1),
          what=pick([("agent", "dev-1"), ("agent", "ghost"), ("domain", "core"), ("domain", "ui"), ("wave", "W1"),
                     ("wave", "W9"), ("all", None)]))  # fmt: skip
    def stop(self, who, seldom, what):
        if seldom:
            return
        self.tick()
        self.check(
            f"{who} stops {what}",
            self.trial.faults_stop(who, *what),
            lambda: stops.stop(self.acting(who), *what, reason="smoke"),
            lambda: self.trial.stop(who, *what),
            who=who,
        )

    @rule(who=pick(["pm", "cto", "dev-1"]), data=st.data())
    def resume(self, who, data):
        if not self.model.stops and not self.one(data, rarely, "astray"):
            return
        self.tick()
        scope, value = self.one(data, pick([(None, None), *self.model.stops]), "which")
        self.check(
            f"{who} resumes {scope} {value}",
            self.trial.faults_resume(who, scope, value),
            lambda: stops.lift(self.acting(who), scope, value),
            lambda: self.trial.resume(scope, value),
            who=who,
        )

    # --- after every step ----------------------------------------------------------------------------------------

    @invariant()
    def same(self):
        compare(self.store, self.model)

    @invariant()
    def invariants_hold(self):
        assert_invariants(self.ctx, replay=False)  # the log is replayed at the end

    def teardown(self):
        try:
            assert history.differences(self.ctx) == []
        finally:
            self.store.close()


# Hypothesis takes all rules alike; stories come far only where most steps are theirs.
for number in range(14):
    setattr(Machine, f"go_on_{number}", rule(data=st.data())(lambda self, data: self.go_on(data)))
for number in range(4):
    setattr(Machine, f"go_plausibly_{number}", rule(data=st.data())(lambda self, data: self.go_plausibly(data)))
