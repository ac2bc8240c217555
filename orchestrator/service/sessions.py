"""Agents' sessions: registered, kept alive, ended."""

from __future__ import annotations

from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import InvalidInput, NotFound, Refused
from orchestrator.domain.moments import after
from orchestrator.service.context import Act, Context, renewed, use_case
from orchestrator.service.sweep import end_session
from orchestrator.store import SHARED, Row, Tx

MAX_TTL = 30 * 24 * 3600


@use_case("agent.register")
def register(
    act: Act, agent: str, role: str, *, domain: str | None = None, vm: str | None = None, takeover: bool = False,
    ttl: int | None = None, launched_by: str = "hand",
) -> Row:  # fmt: skip
    """Register an agent, or revive its id. Refused: it is live (unless ``takeover``). The session, with its epoch."""
    tx = act.tx
    names.agent_id(agent)
    if agent in names.RESERVED_AGENTS:
        raise InvalidInput(f"{agent!r} is a reserved id", hint="Choose another id; maf and user are the tool's own.")
    if role not in set(lc.Role):
        raise InvalidInput(f"{role!r} is no role", hint=f"One of {', '.join(lc.Role)}.")
    if domain is not None:
        names.domain(domain)
    if vm is not None:
        names.text(vm, "the machine's name", limit=100, single_line=True)
    seconds = ttl if ttl is not None else (
        act.ctx.policy.ttl_runner if launched_by == "runner" else act.ctx.policy.ttl_hand
    )  # fmt: skip
    if not 1 <= seconds <= MAX_TTL:
        raise InvalidInput(f"a lease of {seconds} s cannot be", hint=f"--ttl takes 1 to {MAX_TTL} seconds.")
    until = after(tx.now, seconds)
    given: dict[str, Any] = {
        "domain": domain, "vm_identifier": vm, "launched_by": launched_by, "ttl_seconds": seconds, "lease_until": until,
    }  # fmt: skip
    found = tx.one("session.get", agent_id=agent)
    if found is None:
        tx.activity(agent, "agent.register", role=role)
        session = tx.write(
            "session.insert", id=ids.new_id(), agent_id=agent, agent_type=role, status=lc.SessionStatus.STARTING,
            now=tx.now, **given,
        )[0]  # fmt: skip
    else:
        session = _revive(act, found, role, takeover, given)
    tx.write(
        "epoch.insert", id=ids.new_id(), agent_id=agent, epoch=session["epoch"], agent_type=role, domain=domain,
        vm_identifier=vm, launched_by=launched_by, now=tx.now,
    )  # fmt: skip
    return session


def _revive(act: Act, found: Row, role: str, takeover: bool, given: dict[str, Any]) -> Row:
    tx, agent = act.tx, found["agent_id"]
    if found["agent_type"] != role:
        raise Refused(f"{agent!r} is a {found['agent_type']}; an id never changes its role", hint="Choose another id.")
    if found["status"] != lc.SessionStatus.TERMINATED:
        if not takeover:
            raise Refused(
                f"{agent!r} is live since {found['started_at']}",
                hint="Choose another id, end it (maf agent end), or say --takeover to release what it holds.",
            )
        end_session(tx, found, lc.EndReason.TAKEOVER, "taken over", by=agent)
    tx.activity(agent, "agent.register", role=role, takeover=takeover)
    return tx.swap(
        "session.revive",
        agent_id=agent,
        epoch=found["epoch"] + 1,
        status=lc.SessionStatus.STARTING,
        now=tx.now,
        **given,
    )


def heartbeat(ctx: Context) -> dict[str, Any]:
    """Renew the lease of the acting session; its status and until when it is live. SessionEnded: it has ended."""

    def work(tx: Tx) -> dict[str, Any]:
        session = renewed(tx, ctx.agent, ctx.epoch)
        if session["status"] == lc.SessionStatus.STARTING:
            from orchestrator.service.context import save_session

            tx.activity(ctx.agent, "agent.seen")
            save_session(tx, session, status=lc.SESSION_ACTIONS["seen"].to)
        return {k: session[k] for k in ("agent_id", "status", "epoch", "lease_until", "current_story_id")}

    if ctx.agent in names.RESERVED_AGENTS:
        raise InvalidInput("a heartbeat is an agent's", hint="Say whose: --agent ID, or set MAF_AGENT.")
    return ctx.store.write(work, scope=SHARED)


def keep_alive(ctx: Context) -> None:
    """Renew the acting session's lease and change nothing else; an id without a live session is none's business here.

    SessionEnded: the context carries an epoch, and its life has ended.
    """

    def work(tx: Tx) -> None:
        if ctx.epoch is not None:
            renewed(tx, ctx.agent, ctx.epoch)
        else:
            tx.mark("session.renew", agent_id=names.agent_id(ctx.agent), epoch=None, now=tx.now)

    ctx.store.write(work, scope=SHARED)


@use_case("agent.end")
def end(act: Act, agent: str, *, reason: str = "it said so") -> Row:
    """End a session: its own, or any by pm, cto or the person. Its story is released, its deliveries given back."""
    names.text(reason, "the reason", limit=4000)
    session = act.tx.one("session.get", agent_id=names.agent_id(agent))
    if session is None:
        raise NotFound(f"no agent is registered as {agent!r}", hint="See `maf agent list`.")
    if act.session and act.agent != agent and act.role not in (lc.Role.PM, lc.Role.CTO):
        raise Refused(f"{act.agent} may not end {agent}", hint="An agent ends its own session; pm and cto end any.")
    if session["status"] == lc.SessionStatus.TERMINATED:
        raise Refused(f"the session of {agent!r} has ended already", hint="See `maf agent list`.")
    end_session(act.tx, session, lc.EndReason.ENDED, reason, by=act.agent)
    return session


def show(ctx: Context, agent: str) -> dict[str, Any]:
    """A session with its lives and what it holds."""
    with ctx.store.read() as reader:
        session = reader.one("session.look", agent_id=names.agent_id(agent))
        if session is None:
            raise NotFound(f"no agent is registered as {agent!r}", hint="See `maf agent list`.")
        return {
            **session,
            "epochs": reader.all("epoch.list", agent_id=agent),
            "holds": reader.all("assignment.open_of_agent", agent_id=agent),
        }


def listing(ctx: Context, *, ended: bool = False) -> list[Row]:
    """The sessions, live ones first; ``live`` says what the lease says now."""
    now = ctx.store.now()
    with ctx.store.read() as reader:
        rows = reader.all("session.list")
    for row in rows:
        row["live"] = row["status"] != lc.SessionStatus.TERMINATED and row["lease_until"] > now
    return [row for row in rows if ended or row["status"] != lc.SessionStatus.TERMINATED]
