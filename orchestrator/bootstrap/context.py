"""From options and environment to what commands work with: the store, who acts, the settings, the project."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from orchestrator.bootstrap.locate import Location, locate
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import InvalidInput, MafError, WrongRole
from orchestrator.domain.settings import AGENT, AUTO
from orchestrator.service.context import Context, Policy
from orchestrator.store import Store, open_store

if TYPE_CHECKING:
    from orchestrator.bootstrap.config import Configuration
    from orchestrator.domain.settings import Settings
    from orchestrator.gates.project import Project


@dataclass
class Given:
    """What the command line said; None where it did not."""

    db: str | None = None
    agent: str | None = None
    token: int | None = None
    key: str | None = None


class Desk:
    """Opens each thing when it is asked for, and once. Use it as a context manager, or ``close`` it."""

    def __init__(
        self, given: Given, *, start: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.given = given
        self.environment = os.environ if environment is None else environment
        self.start = start or Path.cwd()
        self._store: Store | None = None
        self._project: Project | None = None

    @cached_property
    def location(self) -> Location:
        """Where the project is."""
        return locate(self.start, self.environment, db=self.given.db)

    @cached_property
    def configuration(self) -> Configuration:
        """Every setting, validated (imports pydantic)."""
        from orchestrator.bootstrap.config import load

        return load(self.location)

    @property
    def settings(self) -> Settings:
        """The settings (imports pydantic)."""
        return self.configuration.settings

    @property
    def store(self) -> Store:
        """The open store."""
        if self._store is None:
            self._store = open_store(self.location.store()[0])
        return self._store

    @property
    def agent(self) -> str:
        """Who acts: ``--agent``, else ``MAF_AGENT``, else ``user``. WrongRole: the tool's own id is named."""
        agent = self.given.agent or self.environment.get("MAF_AGENT") or lc.USER
        if agent == lc.TOOL:
            raise WrongRole(f"{agent!r} is the tool's own id", hint="Say who acts: --agent ID, or set MAF_AGENT.")
        return agent

    def _policy(self) -> Policy:
        plain = Policy()
        return Policy(
            self._number("run.max_attempts", plain.max_attempts),
            self._number("signals.per_minute", plain.signals_per_minute),
            self._number("sessions.ttl", plain.ttl_hand),
        )

    def _number(self, key: str, default: int) -> int:
        found = self.location.find(key)
        if found is None:
            return default
        if type(found[0]) is not int or found[0] < 0:
            return int(self.configuration.values[key])  # the validation says what is wrong with it
        return found[0]

    def _from_launcher(self, variable: str) -> int | None:
        """A number that the runner gave to the agent it launched; of no meaning for anybody else than ``MAF_AGENT``."""
        text = self.environment.get(variable)
        if not text or self.agent == lc.USER or self.agent != (self.environment.get("MAF_AGENT") or self.agent):
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 18):
            raise InvalidInput(f"{variable} is {text[:60]!r}; it must be a whole number", hint=f"Unset {variable}.")
        return int(text)

    @cached_property
    def ctx(self) -> Context:
        """The context of the acting agent."""
        token = self.given.token if self.given.token is not None else self._from_launcher("MAF_TOKEN")
        epoch = self._from_launcher("MAF_SESSION")
        return Context(self.store, self.agent, epoch, token, self.given.key, self._policy())

    def keep_alive(self) -> None:
        """Renew the session of the agent that is named, if it has one: what a use case does, for a command without.

        SessionEnded: the command carries an older epoch (``MAF_SESSION``).
        """
        if self.agent != lc.USER:
            from orchestrator.service import sessions

            sessions.keep_alive(self.ctx)

    def role(self, role: str) -> Context:
        """The context for a command of ``role``: the acting agent's, else that of the id which plays the role.

        A role that is ``auto`` or ``human`` acts under the id that ``maf.toml`` gives it, and its session is kept here.
        WrongRole: nobody is named and the role is an agent's.
        """
        if self.agent != lc.USER:
            return self.ctx
        section = self.location.find(f"roles.{role}")
        values: dict[str, Any] = section[0] if section and isinstance(section[0], dict) else {}
        if values:
            values = {"mode": self.settings.roles[role].mode, "id": self.settings.roles[role].id}
        if values.get("mode", AUTO) == AGENT:
            raise WrongRole(
                f"this is for the {role}, which an agent plays here", hint="Say who acts: --agent ID, or set MAF_AGENT."
            )
        agent = str(values.get("id", role))
        self._keep(agent, role)
        return self.ctx.acting(agent) if self.given.key is None else self._keyed(agent)

    def _keyed(self, agent: str) -> Context:
        from dataclasses import replace

        return replace(self.ctx, agent=agent)

    def _keep(self, agent: str, role: str) -> None:
        """Register the session of a person's role where it has none or the last one has ended."""
        from dataclasses import replace

        from orchestrator.service import sessions

        with self.store.read() as reader:
            found = reader.one("session.look", agent_id=agent)
        live = found is not None and found["status"] != lc.SessionStatus.TERMINATED
        if found is not None and live and found["lease_until"] > self.store.now():
            return
        # One whose lease ran out is swept first, in the same transaction, so that registering it is no takeover.
        sessions.register(replace(self.ctx, key=None), agent, role)

    def project(self, role: str | None = None) -> Project:
        """The repository with its settings, for the acting agent (or whoever plays ``role``)."""
        from orchestrator.gates.project import Project
        from orchestrator.git import Repository

        ctx = self.role(role) if role else self.ctx
        if self._project is None:
            self._project = Project(Repository.open(self.location.root or self.start), self.settings, ctx)
        return self._project

    def keep_work(self) -> None:
        """Pin what is in the stories' worktrees here, after a command that took stories from their devs."""
        from orchestrator.gates.dev import keep_all_work

        # Without a repository at hand (a store given by --db) there are no worktrees either.
        with suppress(MafError):
            keep_all_work(self.project())

    def opener(self) -> Callable[[], Project]:
        """A function that gives the project anew: each time with a connection of its own, for a thread of its own."""
        from dataclasses import replace

        project = self.project()
        plain = replace(project.ctx, agent=lc.USER, epoch=None, token=None, key=None)
        url = self.location.store()[0]
        return lambda: replace(project, ctx=replace(plain, store=open_store(url)))

    def close(self) -> None:
        """Let go of the store and of git."""
        if self._project is not None:
            self._project.repo.close()
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
