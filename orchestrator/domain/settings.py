"""What ``maf.toml`` decides, as plain data with its defaults. Read and validated by ``orchestrator.bootstrap``."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.domain.lifecycle import TTL_HAND, TTL_RUNNER, Role

AUTO, AGENT, HUMAN = "auto", "agent", "human"
MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checks:
    """``[checks]``: the project's own commands, each an argv list, run one after another in a worktree.

    ``none`` is the reason why a project has no checks; without commands and without it, no gate that checks passes.
    """

    commands: tuple[tuple[str, ...], ...] = ()
    none: str | None = None
    timeout: float = 1800.0  # seconds, each command
    output_limit: int = 50 * MEGABYTE  # bytes, each command
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Domain:
    """``[domains.NAME]``: path globs. A domain with ``owns`` may change only those; ``forbidden`` wins over all."""

    owns: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """``[roles.pm]``, ``[roles.qa]``, ``[roles.cto]``: who plays the role.

    ``mode``: ``auto`` (maf itself, by policy), ``agent`` (``command``, launched for each story), ``human`` (waits for a
    person's commands). ``id`` is the agent id under which it acts.
    """

    mode: str = AUTO
    id: str = ""
    command: tuple[str, ...] = ()
    prompt: str = "stdin"


@dataclass(frozen=True, slots=True)
class DevAgent:
    """``[[agents]]``: a kind of dev agent.

    ``command`` is an argv; ``{prompt}``, ``{prompt_file}``, ``{story}`` and ``{worktree}`` are filled in.

    ``count`` bounds how many run at once (``run.agents`` bounds them all). ``prompt``: how the prompt reaches it:
    ``stdin``, ``argument`` (where ``{prompt}`` stands, else appended), ``file`` (``{prompt_file}``), ``none``.
    ``submits``: False for a command that does not know maf: when it exits 0, maf takes the gates in its name.
    """

    id: str
    command: tuple[str, ...]
    domain: str | None = None
    count: int | None = None
    prompt: str = "stdin"
    submits: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    pass_environment: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """``[run]``: the limits of ``maf run``. Times in seconds, sizes in bytes."""

    agents: int = 4
    max_attempts: int = 3
    timeout: float = 3600.0
    output_limit: int = 100 * MEGABYTE
    backoff: float = 5.0  # before the second attempt; doubles each time
    backoff_max: float = 600.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything. ``plan_files``: what gate 1 asks for in the worktree, with ``{story}`` filled in."""

    store: str = "sqlite:///.maf/maf.db"
    target: str = "main"
    checks: Checks = field(default_factory=Checks)
    plan_files: tuple[str, ...] = ()
    domains: dict[str, Domain] = field(default_factory=dict)
    roles: dict[str, RoleSettings] = field(
        default_factory=lambda: {r: RoleSettings(id=r) for r in (Role.CTO, Role.PM, Role.QA)}
    )
    agents: tuple[DevAgent, ...] = ()
    run: Run = field(default_factory=Run)
    signals_per_minute: int = 600
    ttl_hand: int = TTL_HAND
    ttl_runner: int = TTL_RUNNER
