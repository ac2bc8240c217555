"""A team on a store whose clock the test moves, and the few steps that most stories take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.domain import moments
from orchestrator.domain.errors import MafError
from orchestrator.service import reviews, sessions, signals, stories, waves
from orchestrator.service.context import Context, Policy
from orchestrator.store import Row, Store

RAN = {"command": ["make", "check"], "exit_code": 0}
COMMIT, BASE, MERGE = "1" * 40, "0" * 40, "2" * 40
HOUR = 3600


class World:
    """``world.dev`` and so on are contexts; ``world.tick(seconds)`` moves the store's clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.time = "2026-11-22T10:00:00.000000Z"
        store.clock = lambda: self.time
        self.user = Context(store, policy=Policy(signals_per_minute=30))
        self.maf = self.user.acting("maf")
        for agent, role in (("cto", "cto"), ("pm", "pm"), ("qa-1", "qa"), ("dev-1", "dev"), ("dev-2", "dev")):
            sessions.register(self.user, agent, role, domain="core" if role == "dev" else None)
        self.cto, self.pm, self.qa = (self.user.acting(a) for a in ("cto", "pm", "qa-1"))
        self.dev, self.dev2 = self.user.acting("dev-1"), self.user.acting("dev-2")

    def tick(self, seconds: float) -> None:
        self.time = moments.after(self.time, seconds)

    def keep_alive(self, *agents: str) -> None:
        for agent in agents:
            sessions.heartbeat(self.user.acting(agent))

    def wave(self, *codes: str, code: str = "W1", after: tuple[str, ...] = (), start: bool = True) -> None:
        """A wave with these stories approved, started unless said otherwise."""
        waves.add(self.user, code, name=code, after=after)
        for story in codes:
            self.story(story, code)
        if start:
            waves.start(self.pm, code)

    def story(self, code: str, wave: str = "W1", *, approved: bool = True, **given: Any) -> Row:
        row = stories.add(self.user, code, wave, **{"title": code, "domain": "core", "criteria": ["it works"], **given})
        return stories.approve(self.cto, code) if approved else row

    def begin(self, code: str, dev: Context | None = None) -> Row:
        """Assigned to ``dev`` and started."""
        dev = dev or self.dev
        stories.assign(self.pm, code, dev.agent)
        return stories.start(dev, code, branch=f"feature/{code}", base=BASE)

    def submit(self, code: str, dev: Context | None = None) -> Row:
        """From in progress at whatever gate to QA."""
        dev = dev or self.dev
        gate = self.look(code)["current_gate"]
        for number in range(gate, 3):
            stories.advance(dev, code, gate=number, evidence=RAN)
        return stories.submit(dev, code, commit=COMMIT, evidence=RAN)

    def review(self, code: str) -> None:
        """From QA to before the merge."""
        reviews.qa_pass(self.qa, code, commit=COMMIT, evidence=RAN)
        reviews.accept(self.pm, code)
        reviews.integrate(self.maf, code, commit=COMMIT, evidence={**RAN, "tree": "t" * 40, "target_tip": BASE})

    def merge(self, code: str) -> Row:
        return reviews.merge(self.cto, code, merge_commit=MERGE, evidence=RAN)

    def finish(self, code: str, dev: Context | None = None) -> Row:
        """From ready to merged."""
        self.begin(code, dev)
        self.submit(code, dev)
        self.review(code)
        return self.merge(code)

    def look(self, code: str) -> Row:
        return stories.show(self.user, code)

    def state(self, code: str) -> tuple[str, int, str | None]:
        row = self.look(code)
        return row["status"], row["current_gate"], row["assigned_agent"]

    def wave_status(self, code: str = "W1") -> str:
        return str(waves.status(self.user, code)["status"])

    def session(self, agent: str) -> Row:
        return sessions.show(self.user, agent)

    def pending(self, who: Context) -> list[str]:
        return [s["signal_type"] for s in signals.inbox(who)["pending"]]

    def signals(self, kind: str) -> list[Row]:
        with self.store.read() as reader:
            rows = reader.all("signal.list", size=1000)
        return [r for r in reversed(rows) if r["signal_type"] == kind]

    def rows(self) -> dict[str, Any]:
        """Everything that a refused call must leave as it was (but for heartbeats, which every call renews)."""
        with self.store.read() as reader:
            log = reader.all("activity.page", after=0, size=10_000)
            sent = reader.all("signal.list", size=1000)
            return {"log": log, "signals": sent, "stories": reader.all("story.list"), "waves": reader.all("wave.list")}

    def refused(self, exit_code: int, call: Callable[[], Any], *words: str) -> MafError:
        """``call`` is refused with that exit code, a message, a hint, and nothing written."""
        before = self.rows()
        with pytest.raises(MafError) as refused:
            call()
        error = refused.value
        assert error.exit_code == exit_code, repr(error)
        assert error.message
        assert error.hint
        for word in words:
            assert word in error.message, error.message
        assert self.rows() == before
        return error

    def with_policy(self, **policy: Any) -> Context:
        return replace(self.user, policy=Policy(**policy))
