"""Sending and settling signals inside a transaction: what every action of the lifecycle does with them."""

from __future__ import annotations

from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import NotFound
from orchestrator.store import Row, Tx


def addressees(tx: Tx, to_agent: str | None, sender: str, *, known: bool = False) -> tuple[str, list[str]]:
    """Who gets a delivery: (kind, addressees). A role is one addressee, which exactly one agent of it takes.

    ``known``: the caller has the agent's session at hand, so it is not looked for.
    """
    if to_agent is None:
        return "broadcast", [s["agent_id"] for s in tx.all("session.live", now=tx.now) if s["agent_id"] != sender]
    if to_agent.startswith("all:"):
        role, _, domain = to_agent.removeprefix("all:").partition("/")
        _role(role, to_agent)
        if domain:
            names.domain(domain)
        live = tx.all("session.live_of_role", now=tx.now, agent_type=role)
        return "broadcast", [
            s["agent_id"] for s in live if s["agent_id"] != sender and (not domain or s["domain"] == domain)
        ]
    if to_agent.startswith("role:"):
        role, _, domain = to_agent.removeprefix("role:").partition("/")
        _role(role, to_agent)
        if domain:
            names.domain(domain)
        return "role", [to_agent]
    if not known and tx.one("session.look", agent_id=names.agent_id(to_agent)) is None:
        raise NotFound(
            f"no agent has the id {to_agent!r}", hint="See `maf agent list`, or address a role: --to role:pm"
        )
    return "direct", [to_agent]


def _role(role: str, given: str) -> None:
    if role not in set(lc.Role):
        raise NotFound(
            f"{given!r} names no role", hint=f"Roles are {', '.join(lc.Role)}; a domain follows a slash: role:dev/auth"
        )


def inbox_of(session: Row) -> list[str]:
    """The addressees whose deliveries an agent may take: itself, its role, its role in its domain."""
    mine = [session["agent_id"], f"role:{session['agent_type']}"]
    if session["domain"]:
        mine.append(f"role:{session['agent_type']}/{session['domain']}")
    return mine


def emit(
    tx: Tx,
    kind: lc.SignalType,
    sender: str,
    to_agent: str | None,
    payload: dict[str, Any],
    *,
    story_id: str | None = None,
    wave_id: str | None = None,
    priority: int = 1,
    expires_at: str | None = None,
    cause: Row | None = None,
    known: bool = False,
) -> Row:
    """Store a signal and its deliveries; the caller has opened the activity and checked the payload."""
    how, whom = addressees(tx, to_agent, sender, known=known)
    signal: dict[str, Any] = {
        "id": ids.new_id(),
        "signal_type": kind,
        "from_agent": sender,
        "to_agent": to_agent,
        "story_id": story_id,
        "wave_id": wave_id,
        "payload": names.json_text(payload, "the payload"),
        # With nobody to hear it there is nothing left to do.
        "status": lc.SignalStatus.PENDING if whom else lc.SignalStatus.PROCESSED,
        "processed_at": None if whom else tx.now,
        "priority": priority,
        "expires_at": expires_at,
        "cause_id": cause["id"] if cause else None,
        "chain_depth": cause["chain_depth"] + 1 if cause else 0,
        "now": tx.now,
    }
    deliveries: list[dict[str, Any]] = [
        {
            "id": ids.new_id(), "signal_id": signal["id"], "kind": how, "addressee": addressee,
            "status": lc.SignalStatus.PENDING, "priority": priority, "now": tx.now,
        }
        for addressee in whom
    ]  # fmt: skip
    stored, *_ = tx.write_all([("signal.insert", signal), *(("delivery.insert", d) for d in deliveries)])
    return stored[0]


def settle(tx: Tx, unsettled: list[Row], action: str, agent: str) -> None:
    """Of a story's open signals, those that ``action`` answers are processed now, those that it overtakes expired."""
    for signal in unsettled:
        rule = lc.SIGNALS[lc.SignalType(signal["signal_type"])]
        if action in rule.answered_by:
            answered = tx.write("delivery.answer", signal_id=signal["id"], agent_id=agent, now=tx.now)
            if len(answered) == 1 and not _is_broadcast(signal):
                _save_state(tx, signal, lc.SignalStatus.PROCESSED, answered[0])  # its only delivery
                continue
        elif action in rule.overtaken_by or (rule.by_hand and action in lc.MOVES_ON and _to_the_ended(tx, signal)):
            tx.write("delivery.expire", signal_id=signal["id"], now=tx.now)
        else:
            continue
        show_state(tx, signal["id"])


def _to_the_ended(tx: Tx, signal: Row) -> bool:
    """Whether a signal is to an agent's id whose session has ended."""
    if signal["to_agent"] is None or ":" in signal["to_agent"]:
        return False
    session = tx.one("session.look", agent_id=signal["to_agent"])
    return session is None or session["status"] == lc.SessionStatus.TERMINATED


def _is_broadcast(signal: Row) -> bool:
    return signal["to_agent"] is None or signal["to_agent"].startswith("all:")


def show_state(tx: Tx, signal_id: str) -> None:
    """Bring a signal's own row in line with its least advanced delivery."""
    state = tx.must("signal.state", id=signal_id)
    status = next(s for s, rank in lc.STATUS_RANK.items() if rank == state["rank"])
    _save_state(
        tx, state, status, {"acknowledged_at": state["last_acknowledged"], "processed_at": state["last_processed"]}
    )


def _save_state(tx: Tx, signal: Row, status: lc.SignalStatus, times: Row) -> None:
    after = {
        "status": str(status),
        "acknowledged_at": None if status is lc.SignalStatus.PENDING else times["acknowledged_at"],
        "processed_at": times["processed_at"] if status is lc.SignalStatus.PROCESSED else None,
    }
    if any(after[c] != signal[c] for c in after):
        tx.write("signal.save", before=signal, id=signal["id"], **after)


def give_back(tx: Tx, agent: str) -> None:
    """Return what an ended agent had acknowledged to its role or to itself; its share of a broadcast expires."""
    for delivery in tx.all("delivery.taken_raw", agent_id=agent):
        if delivery["kind"] == "broadcast":
            tx.write("delivery.expire_one", id=delivery["id"], now=tx.now)
        else:
            tx.write("delivery.give_back", id=delivery["id"])
        show_state(tx, delivery["signal_id"])
