"""Which dev agents there are: kinds from ``maf.toml``, and the running instances of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import Refused
from orchestrator.domain.settings import DevAgent
from orchestrator.gates.project import Project
from orchestrator.service import sessions
from orchestrator.store import Row


@dataclass
class Slot:
    """One dev agent. ``busy`` with a story while its job runs, by the assignment of that ``token``.

    ``promised``: the story that an agent of the role pm is about to assign to it.
    """

    kind: DevAgent
    agent: str
    session: Row
    busy: str | None = None
    token: int = 0
    promised: str | None = None

    def begin(self, story: str, token: int) -> None:
        """Its job on a story begins."""
        self.busy, self.token = story, token

    def end(self) -> None:
        """Its job has ended."""
        self.busy = None


@dataclass
class Slots:
    """The dev agents of this runner, made when first needed."""

    kinds: tuple[DevAgent, ...]
    limit: int
    vm: str
    slots: list[Slot] = field(default_factory=list)
    unlaunched: Counter[str] = field(default_factory=Counter)
    """By story: attempts in which not even a process could be launched, of which the store knows nothing."""
    failed_last: dict[str, str] = field(default_factory=dict)
    """By story: the agent whose attempt came to nothing last."""

    def running(self) -> int:
        """How many work now."""
        return sum(1 for slot in self.slots if slot.busy)

    def of(self, agent: str | None) -> Slot | None:
        """The slot of that agent id."""
        return next((slot for slot in self.slots if slot.agent == agent), None)

    def free_for(self, project: Project, story: str, domain: str, stopped: list[Row]) -> Slot | None:
        """A free dev for a story of ``domain``: one that idles, else a new one within the limits. None: none.

        The one that failed at the story last gets it again only where nobody else is free.

        Refused: the ids that it could have are all in use elsewhere.
        """
        if self.running() >= self.limit:
            return None
        idle = [
            slot
            for slot in self.slots
            if slot.busy is None and slot.promised is None
            and slot.kind.domain in (None, domain) and not _stopped(slot.agent, stopped)
        ]  # fmt: skip
        idle.sort(key=lambda slot: slot.kind.domain is None)  # who takes any story is kept for those nobody else takes
        for slot in idle:
            if slot.agent != self.failed_last.get(story):
                return slot
        for kind in sorted(self.kinds, key=lambda k: k.domain is None):
            mine = [slot for slot in self.slots if slot.kind is kind]
            room = len(mine) < (kind.count or self.limit) and len(self.slots) < 4 * self.limit
            if kind.domain in (None, domain) and room:
                made = self._new(project, kind, stopped)
                if made is not None:
                    return made
        return idle[0] if idle else None

    def _new(self, project: Project, kind: DevAgent, stopped: list[Row]) -> Slot | None:
        """Register the first of ``KIND-1``, ``KIND-2``, … that nobody uses. None: those are all stopped."""
        refused: Refused | None = None
        used = {slot.agent for slot in self.slots}
        for number in range(1, 4 * self.limit + 17):
            agent = f"{kind.id}-{number}"
            if agent in used or _stopped(agent, stopped):
                continue
            try:
                session = sessions.register(
                    project.acting(lc.TOOL).ctx, agent, lc.Role.DEV, domain=kind.domain, vm=self.vm,
                    launched_by="runner",
                )  # fmt: skip
            except Refused as error:  # somebody else works under that id
                refused = error
                continue
            slot = Slot(kind, agent, session)
            self.slots.append(slot)
            return slot
        if refused is not None:
            raise Refused(
                f"no id is free for an agent {kind.id!r}: {refused.message}",
                hint="Give [[agents]] another id in maf.toml, or end those sessions: maf agent list",
            ) from refused
        return None


def _stopped(agent: str, stops: list[Row]) -> bool:
    return any(s["scope"] == "all" or (s["scope"] == "agent" and s["scope_value"] == agent) for s in stops)
