"""The reference model: the workflow as a few dictionaries, driven by the lifecycle's tables and none of the service.

``faults_*`` say with which exit codes a call may be refused (none: it must be accepted); where several rules are broken
at once, any of them may be the one that is named. The other methods do what the workflow says of an accepted call.
Times are seconds since the run began.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

from orchestrator.domain import lifecycle as lc

RULE, INPUT, MISSING, LOST = 1, 2, 3, 4
S, W, G, A = lc.StoryStatus, lc.WaveStatus, lc.SignalStatus, lc.SessionStatus
TOOLS = (lc.TOOL, lc.USER)


@dataclass
class Story:
    code: str
    wave: str | None
    domain: str
    priority: int
    criteria: bool
    after: tuple = ()
    status: str = S.BACKLOG
    gate: int = 0
    token: int = 0
    assigned: str | None = None  # stories.assigned_agent
    open: tuple | None = None  # (agent, epoch, token) of the open assignment
    holders: tuple = ()
    commit: str | None = None
    gates: tuple = ((None, 0, lc.Transition.ADVANCE),)
    reports: tuple = ()

    @property
    def held(self):
        return self.status in lc.HELD_STORIES


@dataclass
class Wave:
    code: str
    after: tuple = ()
    manual: bool = False
    status: str = W.PLANNING
    moved_at: float = 0.0


@dataclass
class Session:
    agent: str
    role: str
    domain: str | None
    ttl: float
    lease: float
    runner: bool = False
    epoch: int = 1
    status: str = A.STARTING
    story: str | None = None
    gate: int | None = None
    completed: int = 0


@dataclass
class Delivery:
    kind: str
    status: str = G.PENDING
    taken_by: str | None = None
    given_back: int = 0

    @property
    def open(self):
        return self.status in (G.PENDING, G.ACKNOWLEDGED)


@dataclass
class Signal:
    type: str
    sender: str
    to: str | None
    story: str | None
    wave: str | None
    priority: int = 1
    expires: float | None = None
    depth: int = 0
    id: str | None = None  # the store's, once seen there
    deliveries: dict = field(default_factory=dict)

    @property
    def status(self):
        if not self.deliveries:
            return G.PROCESSED
        return min((d.status for d in self.deliveries.values()), key=lambda s: lc.STATUS_RANK[s])

    def describe(self):
        told = sorted(
            (who, d.kind, str(d.status), d.taken_by or "", d.given_back) for who, d in self.deliveries.items()
        )
        return (str(self.type), self.sender, self.to or "", self.story or "", self.wave or "", self.priority,
                self.depth, str(self.status), tuple(told))  # fmt: skip


class Model:
    def __init__(self):
        self.now = 0.0
        self.stories, self.waves, self.sessions = {}, {}, {}
        self.signals = []
        self.stops = []  # [scope, value] in force
        self.alerts = {}

    def copy(self):
        """Another model of the same state, to try a call on."""
        new = type(self)()
        new.now, new.stops, new.alerts = self.now, list(self.stops), dict(self.alerts)
        for name in ("stories", "waves", "sessions"):
            setattr(new, name, {key: copy(value) for key, value in getattr(self, name).items()})
        for signal in self.signals:
            twin = copy(signal)
            twin.deliveries = {who: copy(d) for who, d in signal.deliveries.items()}
            new.signals.append(twin)
        return new

    # --- who acts --------------------------------------------------------------------------------------------

    def live(self, agent):
        session = self.sessions.get(agent)
        return session is not None and session.status != A.TERMINATED and session.lease > self.now

    def faults_actor(self, who, roles, epoch=None):
        if who in TOOLS:
            return {RULE} if roles and who not in roles else set()
        if who not in self.sessions:
            return {MISSING}
        session, faults = self.sessions[who], set()
        if not self.live(who) or (epoch is not None and epoch != session.epoch):
            faults.add(LOST)
        if roles and session.role not in roles:
            faults.add(RULE)
        return faults

    def seen(self, who):
        if who not in TOOLS:
            session = self.sessions[who]
            session.lease = max(session.lease, self.now + session.ttl)
            if session.status in lc.SESSION_ACTIONS["seen"].frm:
                session.status = lc.SESSION_ACTIONS["seen"].to

    def event(self, agent, name, story=None):
        """What an event does to a session (lifecycle.SESSION_ACTIONS)."""
        session = self.sessions.get(agent)
        if session is not None and session.status in lc.SESSION_ACTIONS[name].frm:
            session.status = lc.SESSION_ACTIONS[name].to
            if name in ("hold", "start"):
                session.story, session.gate = story.code, story.gate
            elif name in ("let go", "end"):
                session.story = session.gate = None

    # --- sessions --------------------------------------------------------------------------------------------

    def faults_register(self, agent, role, takeover):
        found = self.sessions.get(agent)
        if found is None:
            return set()
        return {RULE} if found.role != role or (found.status != A.TERMINATED and not takeover) else set()

    def register(self, agent, role, domain, ttl, *, runner=False):
        found = self.sessions.get(agent)
        if found is not None and found.status != A.TERMINATED:
            self.end(agent)
        new = Session(agent, role, domain, ttl, self.now + ttl, runner)
        if found is not None:
            new.epoch, new.completed = found.epoch + 1, found.completed
        self.sessions[agent] = new

    def faults_end(self, who, agent):
        faults = self.faults_actor(who, ())
        if agent not in self.sessions:
            return faults | {MISSING}
        if self.sessions[agent].status == A.TERMINATED:
            faults.add(RULE)
        if who in self.sessions and who != agent and self.sessions[who].role not in (lc.Role.PM, lc.Role.CTO):
            faults.add(RULE)
        return faults

    def end(self, agent):
        """Terminated: deliveries given back, held stories released, other assignments closed."""
        self.event(agent, "end")
        for signal in self.signals:
            for delivery in signal.deliveries.values():
                if delivery.status == G.ACKNOWLEDGED and delivery.taken_by == agent:
                    if delivery.kind == "broadcast":
                        delivery.status = G.EXPIRED
                    else:
                        delivery.status, delivery.taken_by = G.PENDING, None
                        delivery.given_back += 1
        for story in self.stories.values():
            if story.open and story.open[0] == agent:
                if story.held:
                    self.release(story, lc.TOOL)
                else:
                    story.open = story.assigned = None

    def sweep(self):
        """What has run out by now: sessions past their lease, signals past their expiry."""
        for session in sorted(self.sessions.values(), key=lambda s: s.lease):
            if session.status != A.TERMINATED and session.lease <= self.now:
                self.end(session.agent)
        for signal in self.signals:
            if signal.expires is not None and signal.expires <= self.now:
                for delivery in signal.deliveries.values():
                    if delivery.open:
                        delivery.status = G.EXPIRED

    # --- signals ---------------------------------------------------------------------------------------------

    def emit(self, kind, sender, to, story=None, wave=None, **more):
        signal = Signal(kind, sender, to, story, wave, **more)
        if to is not None and not to.startswith("all:"):
            signal.deliveries[to] = Delivery("role" if to.startswith("role:") else "direct")
        else:
            role, _, domain = (to or "all:").removeprefix("all:").partition("/")
            for agent, session in self.sessions.items():
                if (
                    self.live(agent)
                    and agent != sender
                    and role in ("", session.role)
                    and domain in ("", session.domain)
                ):
                    signal.deliveries[agent] = Delivery("broadcast")
        self.signals.append(signal)
        return signal

    def about(self, kind, sender, to, story):
        return self.emit(kind, sender, to, story.code, story.wave)

    def settle(self, story, action, who):
        """The story's open signals: processed where this is what they asked for, expired where it overtakes them."""
        for signal in self.signals:
            rule = lc.SIGNALS[signal.type]
            if signal.story == story.code and signal.status in (G.PENDING, G.ACKNOWLEDGED):
                for to, delivery in signal.deliveries.items():
                    gone = delivery.kind == "direct" and self.sessions[to].status == A.TERMINATED
                    if delivery.open and action in rule.answered_by:
                        delivery.status, delivery.taken_by = G.PROCESSED, delivery.taken_by or who
                    elif delivery.open and (
                        action in rule.overtaken_by or (rule.by_hand and gone and action in lc.MOVES_ON)
                    ):
                        delivery.status = G.EXPIRED

    def mine(self, agent, signal):
        """The delivery that this agent may take, or None."""
        session = self.sessions[agent]
        names = [agent, f"role:{session.role}", f"role:{session.role}/{session.domain}"]
        return next((signal.deliveries[name] for name in names if name in signal.deliveries), None)

    def faults_take(self, who, signal, epoch=None):
        faults = self.faults_actor(who, (), epoch)
        if faults:
            return faults
        if signal is None:
            return {MISSING}
        delivery = self.mine(who, signal)
        if delivery is None:
            return {RULE}
        if delivery.status == G.PENDING or (delivery.status == G.ACKNOWLEDGED and delivery.taken_by == who):
            return set()
        return {LOST} if delivery.taken_by not in (None, who) else {RULE}

    def acknowledge(self, who, signal):
        delivery = self.mine(who, signal)
        delivery.status, delivery.taken_by = G.ACKNOWLEDGED, who

    def done(self, who, signal):
        self.acknowledge(who, signal)
        self.mine(who, signal).status = G.PROCESSED
        if signal.type == lc.SignalType.BLOCKED:
            self.event(signal.sender, "unblock")

    def faults_send(self, who, kind, *, to, story, cause, epoch=None):
        if kind not in set(lc.SignalType):
            return self.faults_actor(who, (), epoch) | {INPUT} | ({RULE} if who == lc.USER else set())
        rule = lc.SIGNALS[kind]
        roles = tuple(lc.Role) if lc.ANY in rule.sender else rule.sender
        faults = self.faults_actor(who, roles, epoch)
        if not rule.by_hand:
            faults.add(RULE)
        if story is not None and story not in self.stories:
            faults.add(MISSING)
        if kind == lc.SignalType.ANSWER and cause is None:
            faults.add(INPUT)
        if cause is not None and cause.depth + 1 > lc.MAX_CHAIN_DEPTH:
            faults.add(RULE)
        if to is None and rule.to == lc.ASKER and cause is not None:
            to = cause.sender
        if to is not None and ":" not in to and to not in self.sessions:
            faults.add(MISSING)
        if to is not None and ":" in to and to.split(":")[1].split("/")[0] not in set(lc.Role):
            faults.add(MISSING)
        return faults

    def send(self, who, kind, *, to, story, cause, priority, expires_in):
        rule, session = lc.SIGNALS[kind], self.sessions[who]
        if to is None and rule.to != lc.ALL:
            to = cause.sender if rule.to == lc.ASKER else f"role:{rule.to}"
        if story is None and "story_id" in rule.required:
            story = session.story
        if kind == lc.SignalType.ANSWER:
            story = cause.story
        self.emit(
            kind, who, to, story, self.stories[story].wave if story else None, priority=priority,
            expires=None if expires_in is None else self.now + expires_in, depth=cause.depth + 1 if cause else 0,
        )  # fmt: skip
        if kind == lc.SignalType.BLOCKED:
            self.event(who, "block")
        elif kind == lc.SignalType.ANSWER:
            self.event(cause.sender, "unblock")

    def storm(self, who):
        """A refused storm leaves one alert a minute."""
        if self.now - self.alerts.get(who, -1e9) >= 60:
            self.alerts[who] = self.now
            self.emit(lc.SignalType.HELP_NEEDED, lc.TOOL, f"role:{lc.Role.PM}")

    # --- what the stories' and waves' halves share --------------------------------------------------------------

    def release(self, story, who):
        if story.open:
            agent, story.open = story.open[0], None
            if self.sessions[agent].story == story.code:
                self.event(agent, "let go")
        self.move(story, lc.STORY_ACTIONS["release"], who)
        story.assigned = None
        self.about(lc.SignalType.STORY_RELEASED, lc.TOOL, f"role:{lc.Role.PM}", story)

    def move(self, story, action, who, status=None):
        before, story.gate = story.gate, action.gates.get(story.gate, story.gate)
        story.status = status or action.to or story.status
        if action.transition is not None:
            story.gates += ((before, story.gate, action.transition),)
        self.settle(story, action.name, who)
