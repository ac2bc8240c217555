"""Which dev agents there are: kinds from ``maf.toml``, and the running instances of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import Refused
from orchestrator.domain.settings import DevAgent
from orchestrator.gates.project import Project
from orchestrator.service import sessions
from orchestrator.store import Row


@dataclass
class Slot:
    """One dev agent. ``busy`` with a story while its job runs."""

    kind: DevAgent
    agent: str
    session: Row
    busy: str | None = None


@dataclass
class Slots:
    """The dev agents of this runner, made when first needed."""

    kinds: tuple[DevAgent, ...]
    limit: int
    vm: str
    slots: list[Slot] = field(default_factory=list)

    def running(self) -> int:
        """How many work now."""
        return sum(1 for slot in self.slots if slot.busy)

    def of(self, agent: str | None) -> Slot | None:
        """The slot of that agent id."""
        return next((slot for slot in self.slots if slot.agent == agent), None)

    def free_for(
        self, project: Project, domain: str, stopped: list[Row], *, rather_not: str | None = None
    ) -> Slot | None:
        """A free dev for a story of ``domain``: one that idles, else a new one within the limits. None: none.

        ``rather_not``: the agent that failed at the story last; it gets it again only where nobody else is free.
        """
        if self.running() >= self.limit:
            return None
        idle = [
            slot
            for slot in self.slots
            if slot.busy is None and slot.kind.domain in (None, domain) and not _stopped(slot.agent, stopped)
        ]
        for slot in idle:
            if slot.agent != rather_not:
                return slot
        for kind in sorted(self.kinds, key=lambda k: k.domain is None):
            mine = [slot for slot in self.slots if slot.kind is kind]
            if (
                kind.domain in (None, domain)
                and len(mine) < (kind.count or self.limit)
                and len(self.slots) < 4 * self.limit
            ):
                agent = f"{kind.id}-{len(mine) + 1}"
                if not _stopped(agent, stopped):
                    slot = Slot(kind, agent, self.register(project, kind, agent))
                    self.slots.append(slot)
                    return slot
        return idle[0] if idle else None

    def register(self, project: Project, kind: DevAgent, agent: str) -> Row:
        """Register a dev of the runner's own. Refused: the id is in use by somebody else."""
        try:
            return sessions.register(
                project.acting(lc.TOOL).ctx, agent, lc.Role.DEV, domain=kind.domain, vm=self.vm, launched_by="runner"
            )
        except Refused as refused:
            raise Refused(
                f"maf run needs the agent id {agent!r}: {refused.message}",
                hint=f"End that session (maf agent end {agent}), or give [[agents]] another id in maf.toml.",
            ) from refused


def _stopped(agent: str, stops: list[Row]) -> bool:
    return any(s["scope"] == "all" or (s["scope"] == "agent" and s["scope_value"] == agent) for s in stops)
