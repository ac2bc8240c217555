"""Emergency stops: what they end, what they forbid, and how they are lifted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import InvalidInput, NotFound, WrongState
from orchestrator.service.context import Act, Context, use_case
from orchestrator.service.deliveries import emit
from orchestrator.service.sweep import end_session
from orchestrator.store import Reader, Row

SCOPES = ("agent", "domain", "wave", "all")


def covers(stop: Row, *, agent: str | None = None, domain: str | None = None, wave: str | None = None) -> bool:
    """Whether a stop's scope holds this agent, domain or wave."""
    value = {"agent": agent, "domain": domain, "wave": wave}.get(stop["scope"])
    return stop["scope"] == "all" or (value is not None and value == stop["scope_value"])


def refuse_stopped(
    reader: Reader, *, agent: str | None = None, domain: str | None = None, wave: str | None = None,
    stops: Sequence[Row] | None = None,
) -> None:  # fmt: skip
    """WrongState where an emergency stop in force (looked up unless given) covers it."""
    for stop in reader.all("stop.in_force") if stops is None else stops:
        if covers(stop, agent=agent, domain=domain, wave=wave):
            scope = "everything" if stop["scope"] == "all" else f"{stop['scope']} {stop['scope_value']}"
            raise WrongState(f"{scope} is stopped: {stop['reason']}", hint="Lift it with `maf resume`.")


@use_case("stop", (lc.Role.CTO, lc.Role.PM))
def stop(act: Act, scope: str, value: str | None, *, reason: str) -> dict[str, Any]:
    """Stop an agent, a domain, a wave or all: sessions end, stories are released, nothing is launched until resume."""
    tx = act.tx
    if scope not in SCOPES or (scope == "all") != (value is None):
        raise InvalidInput("say what to stop", hint="--agent ID, --domain D, --wave CODE or --all")
    names.text(reason, "the reason", limit=4000, single_line=True)
    hit, to = _covered(act, scope, value)
    tx.activity(act.agent, "stop", scope=scope, value=value, reason=reason)
    row = tx.write(
        "stop.insert", id=ids.new_id(), scope=scope, scope_value=value, reason=reason, stopped_by=act.agent, now=tx.now
    )[0]
    for address in to:
        emit(tx, lc.SignalType.EMERGENCY_STOP, act.agent, address, {"reason": reason})
    for session in hit:
        end_session(tx, session, lc.EndReason.STOPPED, f"emergency stop: {reason}", by=act.agent)
    return {**row, "stopped": [session["agent_id"] for session in hit]}


def _covered(act: Act, scope: str, value: str | None) -> tuple[list[Row], list[str | None]]:
    """The sessions that a stop ends, and whom it is announced to."""
    tx = act.tx
    live = [s for s in tx.all("session.live", now=tx.now) if s["agent_id"] != act.agent]
    if scope == "all":
        return live, [None]
    if scope == "agent":
        if tx.one("session.look", agent_id=names.agent_id(value or "")) is None:
            raise NotFound(f"no agent is registered as {value!r}", hint="See `maf agent list`.")
        return [s for s in live if s["agent_id"] == value], [value]
    held = [a for a in tx.all("assignment.all_open") if a["story_status"] in lc.HELD_STORIES]
    if scope == "domain":
        names.domain(value or "")
        holders = {a["agent_id"] for a in held if a["domain"] == value}  # a dev without a domain works in any
        hit = [s for s in live if s["domain"] == value or s["agent_id"] in holders]
        # Whoever is stopped hears of it, also those whom the domain's own broadcast does not reach.
        others = [s["agent_id"] for s in hit if (s["agent_type"], s["domain"]) != (lc.Role.DEV, value)]
        return hit, [f"all:{lc.Role.DEV}/{value}", *others]
    from orchestrator.service.waves import find_wave

    wave = find_wave(tx, value or "")
    holders = {a["agent_id"] for a in held if a["wave_code"] == wave["wave_code"]}
    return [s for s in live if s["agent_id"] in holders], sorted(holders)


@use_case("resume", (lc.Role.CTO, lc.Role.PM))
def lift(act: Act, scope: str | None = None, value: str | None = None) -> list[Row]:
    """Lift the emergency stops in force, or those of one scope. WrongState: there is none."""
    stops = [
        s for s in act.tx.all("stop.in_force") if scope is None or (s["scope"], s["scope_value"]) == (scope, value)
    ]
    if not stops:
        raise WrongState("no emergency stop is in force", hint="See `maf status`.")
    act.tx.activity(act.agent, "resume")
    return [{**s, **act.tx.swap("stop.lift", id=s["id"], lifted_by=act.agent, now=act.now)} for s in stops]


def in_force(ctx: Context) -> list[Row]:
    """The emergency stops in force."""
    with ctx.store.read() as reader:
        return reader.all("stop.in_force")
