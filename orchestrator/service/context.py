"""Who acts, on which store, and what a use case is.

A use case is written as ``fn(act, …)`` and called as ``fn(context, …)``: the decorator opens the transaction, sweeps
what has expired, finds and renews the acting session, checks its role, and keeps idempotency keys.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from orchestrator.domain import lifecycle as lc
from orchestrator.domain import names
from orchestrator.domain.errors import InvalidInput, NotFound, Refused, SessionEnded, WrongRole
from orchestrator.store import EXCLUSIVE, SHARED, Reader, Row, Store, Tx

P = ParamSpec("P")
R = TypeVar("R")

OPEN_TO_USER = frozenset({lc.USER, lc.TOOL})


@dataclass(frozen=True, slots=True)
class Policy:
    """What ``maf.toml`` decides for the use cases."""

    max_attempts: int = 3
    signals_per_minute: int = 600
    ttl_hand: int = lc.TTL_HAND
    ttl_runner: int = lc.TTL_RUNNER


@dataclass(frozen=True)
class Context:
    """What every use case is called with.

    ``agent`` is the acting id (``user`` where none was given), ``epoch`` its life where the caller carries one,
    ``token`` the fencing token, ``key`` an idempotency key for the next call, which stands for ``request`` where that
    is given, else for the call's arguments.
    """

    store: Store
    agent: str = lc.USER
    epoch: int | None = None
    token: int | None = None
    key: str | None = None
    policy: Policy = field(default_factory=Policy)
    request: Any = None

    def acting(self, agent: str, *, epoch: int | None = None, token: int | None = None) -> Context:
        """The same store, for another agent."""
        return replace(self, agent=agent, epoch=epoch, token=token, key=None, request=None)


@dataclass
class Act:
    """One use case under way: its transaction and who acts. ``session`` is None for ``user`` and ``maf``."""

    tx: Tx
    ctx: Context
    agent: str
    session: Row | None

    @property
    def now(self) -> str:
        """The transaction's moment."""
        return self.tx.now

    @property
    def role(self) -> str:
        """The acting role: cto, pm, dev, qa, or ``maf``/``user`` itself."""
        return self.session["agent_type"] if self.session else self.agent


@dataclass(frozen=True, slots=True)
class UseCase:
    """An entry of the catalogue. ``by``: the roles that may; empty for anybody, a session or none."""

    name: str
    by: tuple[str, ...]
    function: Callable[..., Any]
    summary: str


CATALOGUE: dict[str, UseCase] = {}


class _SomethingIsDue(Exception):
    """A shared transaction has found what only an exclusive one may settle; never seen outside."""


def live_session(tx: Tx, agent: str, epoch: int | None) -> Row:
    """The session of ``agent``, checked to be live and of that epoch."""
    session = tx.one("session.get", agent_id=names.agent_id(agent))
    if session is None:
        raise NotFound(
            f"no agent is registered as {agent!r}", hint=f"Register it: maf agent register {agent} --role ROLE"
        )
    if session["status"] == lc.SessionStatus.TERMINATED or session["lease_until"] <= tx.now:
        raise SessionEnded(
            f"the session of {agent!r} has ended", hint=f"Register it again: maf agent register {agent} --role ROLE"
        )
    if epoch is not None and session["epoch"] != epoch:
        raise SessionEnded(
            f"{agent!r} has been taken over: this is epoch {epoch}, it is in epoch {session['epoch']}",
            hint="Stop here; another process works under this id now.",
        )
    return session


def renewed(tx: Tx, agent: str, epoch: int | None) -> Row:
    """The live session of ``agent``, its lease moved: one statement, as every command of every agent begins with it."""
    rows = tx.mark("session.renew", agent_id=names.agent_id(agent), epoch=epoch, now=tx.now)
    return rows[0] if rows else live_session(tx, agent, epoch)  # which says what is wrong with it


def save_session(tx: Tx, session: Row, **changes: Any) -> None:
    """Write ``changes`` of a session; ``session`` is brought up to date."""
    after_ = {**session, **changes}
    tx.swap(
        "session.save", before=session,
        **{c: after_[c] for c in ("agent_id", "epoch", "status", "current_story_id", "current_gate", "ended_at",
                                  "total_stories_completed", "last_progress")},
    )  # fmt: skip
    session.update(changes)


def use_case(
    name: str, by: tuple[str, ...] = (), *, scope: str = EXCLUSIVE, keyed: bool = True
) -> Callable[[Callable[Concatenate[Act, P], R]], Callable[Concatenate[Context, P], R]]:
    """Make a use case of a function and enter it in the catalogue.

    ``keyed`` False: one step of something greater, whose idempotency key is not for this.
    """

    def decorate(function: Callable[Concatenate[Act, P], R]) -> Callable[Concatenate[Context, P], R]:
        @wraps(function)
        def call(ctx: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
            def work(tx: Tx, *, alone: bool) -> R:
                from orchestrator.service.sweep import sweep

                if alone:
                    sweep(tx)
                elif tx.overdue:
                    raise _SomethingIsDue
                act = _begin(tx, ctx, name, by)
                if ctx.key is None or not keyed:
                    return function(act, *args, **kwargs)
                return _once(act, name, (args, kwargs), lambda: function(act, *args, **kwargs))

            repeatable = ctx.key is not None and keyed
            if scope == SHARED:
                try:
                    return ctx.store.write(lambda tx: work(tx, alone=False), scope=SHARED, repeatable=repeatable)
                except _SomethingIsDue:
                    # A lease or a signal has run out: that is settled first, and only an exclusive writer may.
                    pass
            return ctx.store.write(lambda tx: work(tx, alone=True), scope=EXCLUSIVE, repeatable=repeatable)

        summary = (function.__doc__ or "").strip().splitlines()[0]
        CATALOGUE[name] = UseCase(name, by, call, summary)
        return call

    return decorate


def _begin(tx: Tx, ctx: Context, name: str, by: tuple[str, ...]) -> Act:
    if ctx.agent in OPEN_TO_USER:
        if by and ctx.agent not in by:
            roles = " or ".join(r for r in by if r not in OPEN_TO_USER) or "maf itself"
            raise WrongRole(
                f"{name} needs an agent: a live session of role {roles}",
                hint="Say who acts: --agent ID, or set MAF_AGENT.",
            )
        return Act(tx, ctx, ctx.agent, None)
    session = renewed(tx, ctx.agent, ctx.epoch)
    if by and session["agent_type"] not in by:
        roles = " or ".join(by)
        raise WrongRole(
            f"{ctx.agent!r} is a {session['agent_type']}; {name} is for {roles}",
            hint=f"Use an agent of role {roles}: --agent ID.",
        )
    if session["status"] == lc.SessionStatus.STARTING:
        tx.activity(ctx.agent, "agent.seen")
        save_session(tx, session, status=lc.SESSION_ACTIONS["seen"].to)
    return Act(tx, ctx, ctx.agent, session)


def _once(act: Act, name: str, request: Any, work: Callable[[], R]) -> R:
    """Run ``work`` once for its idempotency key; a repeat gets the first one's result."""
    digest = _digest(act.ctx, name, request)
    found = _first(act.tx, act.ctx, name, digest)
    if found is not None:
        return found["value"]  # type: ignore[no-any-return]
    value = work()
    act.tx.mark(
        "idempotency.insert", key=act.ctx.key, agent_id=act.agent, use_case=name, digest=digest, now=act.now,
        result=json.dumps({"value": value}, ensure_ascii=False),
    )  # fmt: skip
    return value


def _digest(ctx: Context, name: str, request: Any) -> str:
    asked = [name, request if ctx.request is None else ctx.request]
    return hashlib.sha256(json.dumps(asked, default=str, sort_keys=True).encode()).hexdigest()


def _first(reader: Reader, ctx: Context, name: str, digest: str) -> Row | None:
    """What the first call with this key gave, as ``{"value"}``; None for a fresh key. Refused: another request's."""
    key = ctx.key or ""
    if not key:
        raise InvalidInput("an idempotency key has 1 to 200 characters", hint="Use a longer --key.")
    names.text(key, "the idempotency key", limit=200)
    found = reader.one("idempotency.find", key=key)
    if found is None:
        return None
    if (found["agent_id"], found["use_case"], found["request_digest"]) != (ctx.agent, name, digest):
        raise Refused(f"the key {key!r} was used for another request", hint="Use a fresh key for a new request.")
    result: Row = found["result"]
    return result


def repeated(ctx: Context, name: str) -> Row | None:
    """The result of the first call of the use case ``name`` with this key and request; None where this is the first."""
    with ctx.store.read() as reader:
        found = _first(reader, ctx, name, _digest(ctx, name, None))
    return found["value"] if found else None
