"""What has run out by the store's clock: sessions past their lease, signals past their expiry."""

from __future__ import annotations

from orchestrator.domain import lifecycle as lc
from orchestrator.service.context import save_session
from orchestrator.service.deliveries import give_back, show_state
from orchestrator.store import Row, Tx


def sweep(tx: Tx) -> None:
    """First thing in every exclusive transaction, so that nothing is decided on what has already expired."""
    if not tx.overdue:
        return
    for session in tx.all("session.expired", now=tx.now):
        end_session(tx, session, lc.EndReason.EXPIRED, "its lease ran out without a heartbeat")
    due = tx.all("signal.due", now=tx.now)
    if due:
        tx.activity(lc.TOOL, "signal.expire", count=len(due))
    for signal in due:
        tx.write("delivery.expire", signal_id=signal["id"], now=tx.now)
        show_state(tx, signal["id"])


def end_session(tx: Tx, session: Row, reason: lc.EndReason, why: str, by: str = lc.TOOL) -> None:
    """Terminate a session: its story is released, its deliveries are given back.

    An expired one ended when its lease did; that is also when it stopped being an addressee of broadcasts.
    """
    from orchestrator.service.transitions import close_assignment, release_held

    agent = session["agent_id"]
    expired = reason is lc.EndReason.EXPIRED
    ended_at = session["lease_until"] if expired else tx.now
    tx.activity(by, f"agent.{reason}", session["current_story_id"], agent=agent, reason=why)
    save_session(
        tx, session, status=lc.SESSION_ACTIONS["end"].to, ended_at=ended_at, current_story_id=None, current_gate=None
    )
    tx.write("epoch.end", agent_id=agent, epoch=session["epoch"], ended_at=ended_at, end_reason=reason)
    give_back(tx, agent)
    for assignment in tx.all("assignment.open_of_agent", agent_id=agent):
        lease = session["lease_until"] if expired else None
        if assignment["story_status"] in lc.HELD_STORIES:
            release_held(tx, assignment["story_code"], f"{agent}: {why}", reason, lease_until=lease)
        else:
            close_assignment(tx, assignment, reason, lease_until=lease)
