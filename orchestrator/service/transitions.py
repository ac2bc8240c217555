"""The one home of a story's transition: compare-and-swap, gate row, assignment, signals, the holder's session."""

from __future__ import annotations

from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GuardFailed, NotFound, Refused, StaleToken, WrongState
from orchestrator.service.context import Act, save_session
from orchestrator.service.deliveries import emit, settle
from orchestrator.store import Reader, Row, Tx, the_one

MAX_EVIDENCE_BYTES = 256 * 1024

_SAVED = (
    "wave_id", "status", "current_gate", "assigned_agent", "assigned_at", "branch_name", "base_commit", "started_at",
    "completed_at", "submitted_commit", "first_submitted_at", "fencing_token",
)  # fmt: skip


def find_story(reader: Reader, code: str) -> Row:
    """The story with its wave's code and status. NotFound, or InvalidInput for what cannot be a code."""
    story = reader.one("story.get", code=names.code(code, "the story code"))
    if story is None:
        raise NotFound(f"there is no story {code!r}", hint="See `maf story list`.")
    return story


def check(act_name: str, story: Row, *, checked_since: str | None = None) -> lc.StoryAction:
    """The row of the lifecycle for this action, once the story's status, gate and wave allow it."""
    action = lc.STORY_ACTIONS[act_name]
    code = story["story_code"]
    if story["status"] not in action.frm or (action.gates and story["current_gate"] not in action.gates):
        wanted = " or ".join(action.frm)
        gates = f" before gate {' or '.join(map(str, action.gates))}" if action.gates else ""
        raise WrongState(
            f"{code} is {story['status']} before gate {story['current_gate']}; {act_name} needs {wanted}{gates}",
            hint=_next_step(story),
        )
    if action.active_wave and story["wave_status"] != lc.WaveStatus.ACTIVE:
        paused = story["wave_status"] == lc.WaveStatus.PAUSED
        # A check that already ran when the wave was paused may record its result.
        if not (paused and checked_since is not None and checked_since < story["wave_updated_at"]):
            wave = story["wave_code"]
            raise WrongState(
                f"{code} is in wave {wave}, which is {story['wave_status']}" if wave else f"{code} is in no wave",
                hint=f"maf wave {'resume' if paused else 'start'} {wave}" if wave else "Add it to a wave.",
            )
    return action


def _next_step(story: Row) -> str:
    code, status = story["story_code"], lc.StoryStatus(story["status"])
    step = "submit" if story["current_gate"] > 2 else "advance"
    steps = {
        lc.StoryStatus.BACKLOG: f"Next: maf story approve {code} (cto)",
        lc.StoryStatus.READY: f"Next: maf story assign {code} --to DEV (pm), or maf story next (dev)",
        lc.StoryStatus.ASSIGNED: f"Next: maf story start {code} (its dev)",
        lc.StoryStatus.IN_PROGRESS: f"Next: maf story {step} {code} (its dev)",
        lc.StoryStatus.QA_REVIEW: f"Next: maf qa pass {code} or maf qa reject {code} (qa)",
        lc.StoryStatus.PM_REVIEW: f"Next: maf review accept {code} (pm)" if story["current_gate"] == 5
        else f"Next: maf merge {code} (cto)",
        lc.StoryStatus.COMPLETED: "It is merged; nothing is left to do.",
        lc.StoryStatus.FAILED: f"Next: maf story reopen {code} (pm)",
    }  # fmt: skip
    return steps[status]


def fenced(act: Act, story: Row) -> Row:
    """The open assignment that the acting dev's token proves. StaleToken: it is not (any more) its holder."""
    code = story["story_code"]
    assignment = act.tx.one("assignment.open", story_id=story["id"])
    token = act.ctx.token
    session = act.session
    if session is None:
        raise Refused(f"{code} is its dev's to move", hint="Say who acts: --agent ID.")
    mine = assignment is not None and assignment["agent_id"] == act.agent and assignment["epoch"] == session["epoch"]
    if token is None and session["launched_by"] == "hand" and mine and assignment is not None:
        return assignment
    if assignment is None or not mine:
        holder = f"is held by {assignment['agent_id']}" if assignment else "is held by nobody"
        message = f"{code} {holder}, not by {act.agent} now"
        if token is not None:
            raise StaleToken(f"{message}; the token {token} is stale", hint="Stop: the story has been given away.")
        raise WrongState(message, hint=_next_step(story))
    if token != assignment["fencing_token"]:
        given = "no token was given" if token is None else f"token {token} is stale"
        raise StaleToken(f"{given} for {code}", hint="Pass the assignment's token: --token N, or MAF_TOKEN.")
    return assignment


def move(
    tx: Tx,
    story: Row,
    action: lc.StoryAction,
    agent: str,
    *,
    notes: str | None = None,
    evidence: dict[str, Any] | None = None,
    **changes: Any,
) -> Row:
    """Swap the story to where ``action`` leads, with its gate row; settles the signals it answers. The new story."""
    gate = action.gates.get(story["current_gate"], story["current_gate"])
    new = {**story, "status": action.to or story["status"], "current_gate": gate, **changes}
    save = {
        "now": tx.now, "id": story["id"], "expected_status": story["status"], "expected_gate": story["current_gate"],
        "expected_token": story["fencing_token"], **{c: new[c] for c in _SAVED},
    }  # fmt: skip
    statements = [("story.save", save), ("signal.open_of_story", {"story_id": story["id"]})]
    if action.transition is not None:
        passed = _gate(tx, story["id"], story["current_gate"], gate, agent, action.transition, notes, evidence)
        statements.append(("gate.insert", passed))
    saved, unsettled, *_ = tx.write_all(statements, before=story)
    moved = {**story, **the_one(saved)}
    settle(tx, unsettled, action.name, agent)
    return moved


def gate_row(
    tx: Tx, story_id: str, frm: int | None, to: int | None, agent: str, transition: lc.Transition,
    notes: str | None = None, evidence: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write one ``gate_transitions`` row."""
    tx.write("gate.insert", **_gate(tx, story_id, frm, to, agent, transition, notes, evidence))


def _gate(
    tx: Tx, story_id: str, frm: int | None, to: int | None, agent: str, transition: lc.Transition, notes: str | None,
    evidence: dict[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "id": ids.new_id(), "story_id": story_id, "from_gate": frm, "to_gate": to, "agent_id": agent,
        "transition_type": transition, "notes": notes, "now": tx.now,
        "metadata": names.json_text(evidence or {}, "the evidence", limit=MAX_EVIDENCE_BYTES),
    }  # fmt: skip


def passed_with(evidence: dict[str, Any]) -> dict[str, Any]:
    """Evidence that a gate may pass on: checks that ran and exited 0, or a named decision. GuardFailed otherwise."""
    ran = evidence.get("exit_code") == 0 and bool(evidence.get("command"))
    decision = evidence.get("decision")
    if not ran and not (isinstance(decision, dict) and decision.get("by")):
        raise GuardFailed(
            "a gate does not pass without evidence",
            hint="The check must have run and exited 0, or a named agent decided.",
        )
    return evidence


def close_assignment(tx: Tx, assignment: Row, reason: lc.EndReason, *, lease_until: str | None = None) -> None:
    """End an assignment of a story that stays where it is."""
    tx.swap("assignment.end", id=assignment["id"], now=tx.now, end_reason=reason, lease_until=lease_until)
    if reason is not lc.EndReason.COMPLETED:
        story = tx.one("story.by_id", id=assignment["story_id"])
        assert story is not None
        keep(tx, story, assigned_agent=None, assigned_at=None)


def keep(tx: Tx, story: Row, **changes: Any) -> Row:
    """Change columns of a story that do not move it."""
    new = {**story, **changes}
    return {**story, **tx.swap(
        "story.save", before=story, now=tx.now, id=story["id"], expected_status=story["status"],
        expected_gate=story["current_gate"], expected_token=story["fencing_token"], **{c: new[c] for c in _SAVED},
    )}  # fmt: skip


def free_session(tx: Tx, agent: str, story_id: str, action: str = "let go") -> None:
    """A dev's session no longer holds this story."""
    session = tx.one("session.get", agent_id=agent)
    if session and session["current_story_id"] == story_id and session["status"] != lc.SessionStatus.TERMINATED:
        save_session(tx, session, status=lc.SESSION_ACTIONS[action].to, current_story_id=None, current_gate=None)


def hold_session(tx: Tx, agent: str, story: Row, action: str, *, session: Row | None = None) -> None:
    """A dev's session (looked up unless given) holds this story, and has moved."""
    session = session or tx.one("session.get", agent_id=agent)
    if session and session["status"] != lc.SessionStatus.TERMINATED:
        save_session(
            tx, session, status=lc.SESSION_ACTIONS[action].to, current_story_id=story["id"],
            current_gate=story["current_gate"], last_progress=tx.now,
        )  # fmt: skip


def release_held(
    tx: Tx, code: str, why: str, reason: lc.EndReason, *, by: str = lc.TOOL, lease_until: str | None = None
) -> Row:
    """Release an assigned or started story: back to ready before gate 1, its branch and findings kept."""
    story = find_story(tx, code)
    action = check("release", story)
    tx.activity(by, "story.release", story["id"], reason=why)
    assignment = tx.one("assignment.open", story_id=story["id"])
    if assignment is not None:
        tx.swap("assignment.end", id=assignment["id"], now=tx.now, end_reason=reason, lease_until=lease_until)
        free_session(tx, assignment["agent_id"], story["id"])
    moved = move(tx, story, action, by, notes=why, assigned_agent=None, assigned_at=None)
    emit(
        tx, lc.SignalType.STORY_RELEASED, lc.TOOL, f"role:{lc.Role.PM}", {"story_id": story["id"], "reason": why},
        story_id=story["id"], wave_id=story["wave_id"],
    )  # fmt: skip
    return moved


def send_back(act: Act, story: Row, action: lc.StoryAction, why: str, payload: dict[str, Any], **gate: Any) -> Row:
    """Reject, return or refuse: back to gate 2 with its dev, or released where the dev is gone or busy."""
    tx = act.tx
    assignment = tx.one("assignment.open", story_id=story["id"])
    last = assignment or tx.one("assignment.latest", story_id=story["id"])
    busy = assignment is not None and tx.one("story.held_by", agent_id=assignment["agent_id"]) is not None
    moved = move(tx, story, action, act.agent, notes=why, **gate)
    if action.signal is not None:
        emit(
            tx, action.signal, act.agent, last["agent_id"] if last else f"role:{lc.Role.DEV}",
            {"story_id": story["id"], **payload}, story_id=story["id"], wave_id=story["wave_id"],
        )  # fmt: skip
    if assignment is None or busy:
        cause = f"{assignment['agent_id']} holds another story now" if assignment else "its dev's session has ended"
        return release_held(tx, story["story_code"], f"{why} ({cause})", lc.EndReason.RELEASED)
    hold_session(tx, assignment["agent_id"], moved, "hold")
    return moved
