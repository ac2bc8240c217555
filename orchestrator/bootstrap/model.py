"""``maf.toml`` as pydantic sees it: its sections and keys, their types and bounds."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from orchestrator.domain import names
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.lifecycle import TTL_HAND
from orchestrator.domain.settings import AGENT, AUTO, MEGABYTE

_SHELL = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "&"})
_CHECKS_OUTPUT, _RUN_OUTPUT = 50 * MEGABYTE, 100 * MEGABYTE


def _argv(value: Any) -> Any:
    """A command: a list of words, or one text that is split like a shell would, without a shell."""
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{value!r} cannot be split into words: {error}") from None
        if _SHELL.intersection(words):
            raise ValueError(f'{value!r} needs a shell; write it as ["sh", "-c", {value!r}], or as several commands')
        value = words
    if isinstance(value, list):
        if not value or value[0] == "":
            raise ValueError("a command needs at least the program's name")
        if any(isinstance(word, str) and "\0" in word for word in value):
            raise ValueError("a command holds no NUL character")
        return tuple(value)
    return value


def _name(rule: Any) -> AfterValidator:
    def check(value: str) -> str:
        try:
            return str(rule(value))
        except InvalidInput as error:
            raise ValueError(f"{error.message}. {error.hint}") from None

    return AfterValidator(check)


def _free(value: str) -> str:
    if value in names.RESERVED_AGENTS:
        raise ValueError(f"{value!r} is the tool's own id; choose another")
    return value


def _branch(value: str) -> str:
    if not value or value.startswith("-") or ".." in value or any(c in value for c in " ~^:?*[\\\x7f\0"):
        raise ValueError(f"{value!r} is not a branch name")
    return value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Argv = Annotated[tuple[str, ...], BeforeValidator(_argv)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_tuple)]
AgentId = Annotated[str, _name(names.agent_id), AfterValidator(_free)]
DomainName = Annotated[str, _name(names.domain)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400)]
Bytes = Annotated[int, Field(ge=1024)]
Prompt = Literal["stdin", "argument", "file", "none"]


class Section(BaseModel):
    """A table of the file: no unknown keys, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ProjectSection(Section):
    """``[project]``."""

    target: Annotated[str, AfterValidator(_branch)] = "main"
    plan_files: Texts = ()


class StoreSection(Section):
    """``[store]``."""

    url: str = Field(default="sqlite:///.maf/maf.db", pattern=r"^(sqlite:///.|postgres(ql)?://)")


class ChecksSection(Section):
    """``[checks]``."""

    commands: Annotated[tuple[Argv, ...], BeforeValidator(_tuple)] = ()
    none: str | None = Field(default=None, min_length=1, max_length=1000)
    timeout: Seconds = 1800.0
    output_limit: Bytes = _CHECKS_OUTPUT
    environment: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_of(self) -> ChecksSection:
        if self.commands and self.none:
            raise ValueError("commands and none exclude each other: a project has checks, or says why not")
        return self


class DomainSection(Section):
    """``[domains.NAME]``."""

    owns: Texts = ()
    reads: Texts = ()
    forbidden: Texts = ()

    @model_validator(mode="after")
    def _patterns(self) -> DomainSection:
        from orchestrator.git.ownership import PathRules

        try:
            PathRules(self.owns, self.reads, self.forbidden)
        except InvalidInput as error:
            raise ValueError(f"{error.message}. {error.hint or ''}".strip()) from None
        return self


class RoleSection(Section):
    """``[roles.pm]``, ``[roles.qa]``, ``[roles.cto]``."""

    mode: Literal["auto", "agent", "human"] = AUTO  # type: ignore[assignment]
    id: AgentId | None = None
    command: Argv = ()
    prompt: Prompt = "stdin"

    @model_validator(mode="after")
    def _command(self) -> RoleSection:
        if self.mode == AGENT and not self.command:
            raise ValueError('mode = "agent" needs a command, such as command = ["claude", "-p"]')
        if self.mode != AGENT and self.command:
            raise ValueError(f'a command is for mode = "agent", not {self.mode!r}')
        return self


class RolesSection(Section):
    """``[roles]``."""

    pm: RoleSection = RoleSection()
    qa: RoleSection = RoleSection()
    cto: RoleSection = RoleSection()


class AgentSection(Section):
    """``[[agents]]``."""

    id: AgentId
    command: Argv
    domain: DomainName | None = None
    count: int | None = Field(default=None, ge=1, le=1000)
    prompt: Prompt = "stdin"
    submits: bool = True
    environment: dict[str, str] = {}
    pass_environment: Texts = ()


class RunSection(Section):
    """``[run]``."""

    agents: int = Field(default=4, ge=1, le=1000)
    max_attempts: int = Field(default=3, ge=1, le=1000)
    timeout: Seconds = 3600.0
    output_limit: Bytes = _RUN_OUTPUT
    backoff: float = Field(default=5.0, ge=0, le=86400)
    backoff_max: float = Field(default=600.0, ge=0, le=86400)


class SignalsSection(Section):
    """``[signals]``; 0 is no limit."""

    per_minute: int = Field(default=600, ge=0, le=1_000_000)


class SessionsSection(Section):
    """``[sessions]``."""

    ttl: int = Field(default=TTL_HAND, ge=1, le=30 * 86400)


class File(Section):
    """The whole file."""

    project: ProjectSection = ProjectSection()
    store: StoreSection = StoreSection()
    checks: ChecksSection = ChecksSection()
    domains: dict[DomainName, DomainSection] = {}
    roles: RolesSection = RolesSection()
    agents: Annotated[tuple[AgentSection, ...], BeforeValidator(_tuple)] = ()
    run: RunSection = RunSection()
    signals: SignalsSection = SignalsSection()
    sessions: SessionsSection = SessionsSection()

    @model_validator(mode="after")
    def _ids(self) -> File:
        taken: dict[str, str] = {}
        roles = {"pm": self.roles.pm, "qa": self.roles.qa, "cto": self.roles.cto}
        given = [(section.id or role, f"roles.{role}") for role, section in roles.items()]
        for agent, where in [*given, *((a.id, f"agents[{n}]") for n, a in enumerate(self.agents))]:
            if agent in taken:
                raise ValueError(f"the id {agent!r} is used twice: {taken[agent]} and {where}")
            taken[agent] = where
        return self
