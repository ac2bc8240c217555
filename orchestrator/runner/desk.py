"""What the loop and its decisions share: jobs, agents, sessions, what is put off, and what has been said."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import LostRace, MafError, Refused, StoreUnavailable
from orchestrator.domain.moments import system_now
from orchestrator.domain.settings import HUMAN
from orchestrator.gates.project import Project
from orchestrator.runner import recovery
from orchestrator.runner.events import Event, Report
from orchestrator.runner.launch import Children
from orchestrator.runner.pauses import Pauses
from orchestrator.runner.slots import Slot, Slots
from orchestrator.runner.workers import Workers
from orchestrator.service import sessions
from orchestrator.service.stops import covers
from orchestrator.store import Row

QA, MERGE, DEV, ROLE = "qa", "merge", "dev", "role"
"""The kinds of jobs."""
ROLE_JOBS = 4
"""How many agents of roles decide at once."""


class Desk:
    """The state of one runner. Nothing in it has to survive: all that matters is in the store and the repository."""

    def __init__(self, open_project: Callable[[], Project], report: Report, agents: int | None) -> None:
        self.project = open_project()
        settings = self.project.settings
        limit = agents or settings.run.agents
        self.checks_at_once = max(2, os.cpu_count() or 2)
        self.workers = Workers(open_project, limit + self.checks_at_once + ROLE_JOBS + 1)
        self.children = Children()
        self.slots = Slots(settings.agents, limit, recovery.machine(self.project))
        self.roles: dict[str, Row] = {}
        self.pauses = Pauses(settings.run.backoff, settings.run.backoff_max)
        self.ending: str | None = None
        self._report = report
        self._said: dict[str, str] = {}

    @property
    def maf(self) -> Project:
        """The project with the tool itself acting."""
        return self.project.acting(lc.TOOL)

    # -- talking ---------------------------------------------------------------------------------------------------

    def say(self, kind: str, text: str, *, story: str | None = None, agent: str | None = None, **details: Any) -> None:
        """Report an event."""
        try:
            at = self.project.ctx.store.now()
        except StoreUnavailable:
            at = system_now()  # that the store is gone has to be said as well
        self._report(Event(kind, text, at, story, agent, details))

    def warn(self, key: str, text: str, **about: Any) -> None:
        """Say what is waited for, once: again only when it is something else."""
        if self._said.get(key) != text:
            self._said[key] = text
            self.say("waiting", text, **about)

    # -- sessions --------------------------------------------------------------------------------------------------

    def mode(self, role: str) -> str:
        """Who plays a role: auto, agent or human."""
        return self.project.settings.roles[role].mode

    def acting(self, role: str) -> Project:
        """The project with the role's own session acting."""
        session = self.roles[role]
        return self.project.acting(session["agent_id"], epoch=session["epoch"])

    def keep_roles(self, stops: list[Row]) -> None:
        """Register the sessions of the roles that are maf's own or an agent's; a person's are the person's.

        Refused: the runner of another checkout keeps one of them.
        """
        for role, settings in self.project.settings.roles.items():
            if settings.mode == HUMAN or role in self.roles or any(covers(s, agent=settings.id) for s in stops):
                continue
            self.roles[role] = self._register(settings.id, role)

    def _register(self, agent: str, role: str) -> Row:
        """A role's session. What a person has left under its id is taken over; never what another runner keeps."""
        vm = self.slots.vm
        try:
            return sessions.register(self.maf.ctx, agent, role, vm=vm, launched_by="runner")
        except Refused:
            recovery.refuse_second(self.project)
        return sessions.register(self.maf.ctx, agent, role, vm=vm, launched_by="runner", takeover=True)

    def drop_ended(self, live: list[Row]) -> None:
        """End the processes of agents whose sessions have ended: a stop, a takeover, a person's `maf agent end`."""
        epochs = {row["agent_id"]: row["epoch"] for row in live}
        self.roles = {r: s for r, s in self.roles.items() if epochs.get(s["agent_id"]) == s["epoch"]}
        for slot in list(self.slots.slots):
            if epochs.get(slot.agent) != slot.session["epoch"]:
                self.drop(slot)

    def drop(self, slot: Slot) -> None:
        """A dev agent whose session has ended: its process ends, and it gets no work."""
        self.children.stop(slot.agent, "its session has ended")
        if slot.busy is None:
            self.slots.slots.remove(slot)

    def renew(self) -> None:
        """Renew the leases of everybody whom this runner keeps."""
        for role, session in list(self.roles.items()):
            if not self.beat(session):
                del self.roles[role]
        for slot in list(self.slots.slots):
            if not self.beat(slot.session):
                self.drop(slot)

    def beat(self, session: Row) -> bool:
        """Renew one session; False where it has ended."""
        try:
            sessions.heartbeat(self.project.acting(session["agent_id"], epoch=session["epoch"]).ctx)
        except LostRace:
            return False
        return True

    def end_sessions(self) -> None:
        """End the sessions that this runner kept; the stories that they hold are ready again, their work pinned."""
        mine = {slot.agent: slot.session["epoch"] for slot in self.slots.slots}
        mine |= {session["agent_id"]: session["epoch"] for session in self.roles.values()}
        with suppress(MafError):
            for session in sessions.listing(self.maf.ctx):
                if mine.get(session["agent_id"]) == session["epoch"]:
                    recovery.end(self.maf, session, f"maf run ended{f' by {self.ending}' if self.ending else ''}")
