"""The lifecycle as data: the statuses, and one table each for stories, waves, signals and sessions.

Commands, guards, the docs' tables, the property tests' reference model and the schemas' CHECK lists are derived from
these tables or tested against them. A status name stands in no other Python file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who an agent is."""

    CTO = "cto"
    PM = "pm"
    DEV = "dev"
    QA = "qa"


TOOL = "maf"
"""The reserved id under which the tool itself acts and sends."""
USER = "user"
"""The reserved id of a command without an agent's id."""


class StoryStatus(StrEnum):
    """``stories.status``."""

    BACKLOG = "backlog"
    READY = "ready"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    QA_REVIEW = "qa_review"
    PM_REVIEW = "pm_review"
    COMPLETED = "completed"
    FAILED = "failed"


class WaveStatus(StrEnum):
    """``waves.status``."""

    PLANNING = "planning"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"


class SignalStatus(StrEnum):
    """``signals.status`` and ``signal_deliveries.status``."""

    PENDING = "pending"
    ACKNOWLEDGED = "acknowledged"
    PROCESSED = "processed"
    EXPIRED = "expired"


class SessionStatus(StrEnum):
    """``agent_sessions.status``."""

    STARTING = "starting"
    ACTIVE = "active"
    IDLE = "idle"
    WORKING = "working"
    BLOCKED = "blocked"
    TERMINATED = "terminated"


class Transition(StrEnum):
    """``gate_transitions.transition_type``."""

    ADVANCE = "advance"
    REJECT = "reject"
    RESET = "reset"


class Verdict(StrEnum):
    """``qa_reports.verdict``."""

    PASS = "pass"
    FAIL = "fail"


class SignalType(StrEnum):
    """``signals.signal_type``: the specification's first, then the extensions."""

    STORY_APPROVED = "story_approved"
    STORY_ASSIGNED = "story_assigned"
    READY_FOR_QA = "ready_for_qa"
    QA_APPROVED = "qa_approved"
    QA_REJECTED = "qa_rejected"
    READY_FOR_MERGE = "ready_for_merge"
    MERGE_COMPLETE = "merge_complete"
    BLOCKED = "blocked"
    HELP_NEEDED = "help_needed"
    WAVE_STARTED = "wave_started"
    WAVE_COMPLETED = "wave_completed"
    PM_REJECTED = "pm_rejected"
    MERGE_REJECTED = "merge_rejected"
    STORY_RELEASED = "story_released"
    STORY_FAILED = "story_failed"
    ANSWER = "answer"
    WAVE_PAUSED = "wave_paused"
    WAVE_RESUMED = "wave_resumed"
    WAVE_FAILED = "wave_failed"
    EMERGENCY_STOP = "emergency_stop"


class EndReason(StrEnum):
    """``assignments.end_reason``; the last four also ``agent_epochs.end_reason``."""

    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    EXPIRED = "expired"
    ENDED = "ended"
    STOPPED = "stopped"
    TAKEOVER = "takeover"


class RunOutcome(StrEnum):
    """``agent_runs.outcome``: how a process that the runner launched came to its end."""

    DONE = "done"
    NO_SUBMIT = "no_submit"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OUTPUT_LIMIT = "output_limit"
    NOT_STARTED = "not_started"
    LOST = "lost"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


UNCOUNTED_OUTCOMES = frozenset({RunOutcome.STOPPED, RunOutcome.INTERRUPTED})
"""Ends of a run that are no attempt at its story: somebody, or the death of maf, cut it off."""

FIRST_GATE, MERGED_GATE = 0, 8


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate: ``owner`` is the role that passes it (the tool itself for integration)."""

    number: int
    name: str
    owner: str
    passes_when: str


GATES: tuple[Gate, ...] = (
    Gate(
        0, "architecture", Role.CTO, "title, domain and acceptance criteria stand, dependencies exist; the CTO approves"
    ),
    Gate(1, "planning", Role.DEV, "the branch stands on the target's tip or is continued; the plan files exist"),
    Gate(2, "implementation", Role.DEV, "at least one commit of its own; only files that the domain may touch"),
    Gate(3, "self-test", Role.DEV, "the project's checks exit 0 in the story's worktree"),
    Gate(4, "QA", Role.QA, "a QA report with verdict pass from checks run afresh at that very commit"),
    Gate(5, "PM review", Role.PM, "the PM accepts"),
    Gate(6, "integration", TOOL, "the merge with the target's tip has no conflict and the checks pass on the result"),
    Gate(7, "merge", Role.CTO, "the merge commit is on the target branch"),
)


@dataclass(frozen=True, slots=True)
class StoryAction:
    """One row of the story's life.

    ``gates`` maps the gate before to the gate after; empty where the gate stays. ``to`` None keeps the status.
    ``active_wave``: refused outside an active wave. ``fenced``: a write of the story's dev, which carries the token.
    """

    name: str
    by: tuple[str, ...]
    frm: tuple[StoryStatus, ...]
    to: StoryStatus | None
    gates: dict[int, int]
    transition: Transition | None
    signal: SignalType | None
    active_wave: bool = True
    fenced: bool = False


_S = StoryStatus
_UNENDED = tuple(s for s in StoryStatus if s not in (StoryStatus.COMPLETED, StoryStatus.FAILED))

STORY_ACTIONS: dict[str, StoryAction] = {
    a.name: a
    for a in (
        StoryAction("approve", (Role.CTO,), (_S.BACKLOG,), _S.READY, {0: 1}, Transition.ADVANCE,
                    SignalType.STORY_APPROVED, active_wave=False),
        StoryAction("assign", (Role.PM, TOOL), (_S.READY,), _S.ASSIGNED, {}, None, SignalType.STORY_ASSIGNED),
        StoryAction("start", (Role.DEV,), (_S.ASSIGNED,), _S.IN_PROGRESS, {}, None, None, fenced=True),
        StoryAction("advance", (Role.DEV,), (_S.IN_PROGRESS,), None, {1: 2, 2: 3}, Transition.ADVANCE, None,
                    fenced=True),
        StoryAction("submit", (Role.DEV,), (_S.IN_PROGRESS,), _S.QA_REVIEW, {3: 4}, Transition.ADVANCE,
                    SignalType.READY_FOR_QA, fenced=True),
        StoryAction("pass", (Role.QA,), (_S.QA_REVIEW,), _S.PM_REVIEW, {4: 5}, Transition.ADVANCE,
                    SignalType.QA_APPROVED),
        StoryAction("reject", (Role.QA,), (_S.QA_REVIEW,), _S.IN_PROGRESS, {4: 2}, Transition.REJECT,
                    SignalType.QA_REJECTED, active_wave=False),
        StoryAction("accept", (Role.PM,), (_S.PM_REVIEW,), None, {5: 6}, Transition.ADVANCE,
                    SignalType.READY_FOR_MERGE),
        StoryAction("return", (Role.PM,), (_S.PM_REVIEW,), _S.IN_PROGRESS, {5: 2}, Transition.REJECT,
                    SignalType.PM_REJECTED, active_wave=False),
        StoryAction("integrate", (TOOL,), (_S.PM_REVIEW,), None, {6: 7}, Transition.ADVANCE, None),
        StoryAction("re-integrate", (TOOL,), (_S.PM_REVIEW,), None, {7: 6}, Transition.RESET, None, active_wave=False),
        StoryAction("merge", (Role.CTO,), (_S.PM_REVIEW,), _S.COMPLETED, {7: 8}, Transition.ADVANCE,
                    SignalType.MERGE_COMPLETE),
        StoryAction("refuse", (Role.CTO, TOOL), (_S.PM_REVIEW,), _S.IN_PROGRESS, {6: 2, 7: 2}, Transition.REJECT,
                    SignalType.MERGE_REJECTED, active_wave=False),
        StoryAction("release", (TOOL, Role.PM), (_S.ASSIGNED, _S.IN_PROGRESS), _S.READY, {1: 1, 2: 1, 3: 1},
                    Transition.RESET, SignalType.STORY_RELEASED, active_wave=False),
        StoryAction("fail", (Role.PM, TOOL), _UNENDED, _S.FAILED, {}, None, SignalType.STORY_FAILED, active_wave=False),
        StoryAction("reopen", (Role.PM, TOOL), (_S.FAILED,), _S.READY, dict.fromkeys(range(1, 8), 1) | {0: 0},
                    Transition.RESET, None, active_wave=False),
    )
}  # fmt: skip
"""``reopen`` of a story that never passed gate 0 goes to backlog; see :func:`reopened_status`."""

UNENDED_STORIES = frozenset(_UNENDED)
HELD_STORIES = frozenset({_S.ASSIGNED, _S.IN_PROGRESS})
"""What a dev can have at most one of."""


def reopened_status(gate: int) -> StoryStatus:
    """Where ``reopen`` puts a story that failed at ``gate``."""
    return StoryStatus.BACKLOG if gate == FIRST_GATE else StoryStatus.READY


@dataclass(frozen=True, slots=True)
class WaveAction:
    """One row of the wave's life; ``signal`` goes to all."""

    name: str
    by: tuple[str, ...]
    frm: tuple[WaveStatus, ...]
    to: WaveStatus
    signal: SignalType | None


_W = WaveStatus
WAVE_ACTIONS: dict[str, WaveAction] = {
    a.name: a
    for a in (
        WaveAction("start", (Role.PM, TOOL), (_W.PLANNING,), _W.ACTIVE, SignalType.WAVE_STARTED),
        WaveAction("pause", (Role.PM,), (_W.ACTIVE,), _W.PAUSED, SignalType.WAVE_PAUSED),
        WaveAction("resume", (Role.PM,), (_W.PAUSED,), _W.ACTIVE, SignalType.WAVE_RESUMED),
        WaveAction("complete", (TOOL,), (_W.ACTIVE,), _W.COMPLETED, SignalType.WAVE_COMPLETED),
        WaveAction("fail", (Role.PM, TOOL), (_W.ACTIVE, _W.PAUSED), _W.FAILED, SignalType.WAVE_FAILED),
        WaveAction("retry", (Role.PM,), (_W.FAILED,), _W.ACTIVE, SignalType.WAVE_STARTED),
    )
}
OPEN_WAVES = frozenset({_W.PLANNING, _W.ACTIVE, _W.PAUSED})
"""Waves that take new stories and reopened ones."""


@dataclass(frozen=True, slots=True)
class SignalRule:
    """What a signal type is.

    ``sender``/``to``: a role's name, ``any``, ``maf``, ``all``, ``its dev`` or ``asker``. ``required``: payload fields;
    ``nullable`` of them may be null. ``by_hand``: ``signal send`` may send it; the rest are sent by actions alone.
    ``answered_by``: the story actions it asks for, which mark it processed; ``overtaken_by``: those that expire it.
    """

    type: SignalType
    sender: tuple[str, ...]
    to: str
    required: tuple[str, ...]
    extension: bool = False
    by_hand: bool = False
    nullable: tuple[str, ...] = ()
    answered_by: tuple[str, ...] = ()
    overtaken_by: tuple[str, ...] = ()


ANY, ALL, ITS_DEV, ASKER = "any", "all", "its dev", "asker"
_T = SignalType
SIGNALS: dict[SignalType, SignalRule] = {
    r.type: r
    for r in (
        SignalRule(_T.STORY_APPROVED, (Role.CTO,), Role.PM, ("story_id", "story_code"),
                   answered_by=("assign",), overtaken_by=("fail",)),
        SignalRule(_T.STORY_ASSIGNED, (Role.PM,), Role.DEV, ("story_id", "story_code"),
                   answered_by=("start",), overtaken_by=("release", "fail")),
        SignalRule(_T.READY_FOR_QA, (Role.DEV,), Role.QA, ("story_id", "branch_name"),
                   answered_by=("pass", "reject"), overtaken_by=("fail",)),
        SignalRule(_T.QA_APPROVED, (Role.QA,), Role.PM, ("story_id", "qa_report_id"),
                   answered_by=("accept", "return"), overtaken_by=("fail",)),
        SignalRule(_T.QA_REJECTED, (Role.QA,), ITS_DEV, ("story_id", "findings"),
                   answered_by=("advance",), overtaken_by=("assign", "fail")),
        SignalRule(_T.READY_FOR_MERGE, (Role.PM,), Role.CTO, ("story_id", "branch_name"),
                   answered_by=("merge", "refuse"), overtaken_by=("fail",)),
        SignalRule(_T.MERGE_COMPLETE, (Role.CTO,), ALL, ("story_id", "commit_sha")),
        SignalRule(_T.BLOCKED, (ANY,), Role.PM, ("story_id", "reason"), by_hand=True, nullable=("story_id",)),
        SignalRule(_T.HELP_NEEDED, (ANY,), Role.PM, ("story_id", "question"), by_hand=True, nullable=("story_id",)),
        SignalRule(_T.WAVE_STARTED, (Role.PM,), ALL, ("wave_id",)),
        SignalRule(_T.WAVE_COMPLETED, (Role.PM,), ALL, ("wave_id", "stats")),
        SignalRule(_T.PM_REJECTED, (Role.PM,), ITS_DEV, ("story_id", "reason"), extension=True,
                   answered_by=("advance",), overtaken_by=("assign", "fail")),
        SignalRule(_T.MERGE_REJECTED, (Role.CTO,), ITS_DEV, ("story_id", "reason"), extension=True,
                   answered_by=("advance",), overtaken_by=("assign", "fail")),
        SignalRule(_T.STORY_RELEASED, (TOOL,), Role.PM, ("story_id", "reason"), extension=True,
                   answered_by=("assign",), overtaken_by=("fail",)),
        SignalRule(_T.STORY_FAILED, (TOOL,), Role.PM, ("story_id", "reason"), extension=True, answered_by=("reopen",)),
        SignalRule(_T.ANSWER, (Role.PM,), ASKER, ("text", "answers"), extension=True, by_hand=True),
        SignalRule(_T.WAVE_PAUSED, (Role.PM,), ALL, ("wave_id",), extension=True),
        SignalRule(_T.WAVE_RESUMED, (Role.PM,), ALL, ("wave_id",), extension=True),
        SignalRule(_T.WAVE_FAILED, (Role.PM,), ALL, ("wave_id",), extension=True),
        SignalRule(_T.EMERGENCY_STOP, (Role.CTO, Role.PM), ALL, ("reason",), extension=True, by_hand=True),
    )
}  # fmt: skip
"""In the specification's order, extensions last. ``maf`` may send any type."""

MOVES_ON: frozenset[str] = frozenset(STORY_ACTIONS) - {"release", "reopen"}
"""Actions that expire what was sent by hand about the story to an id whose session has ended. Not those that only give
the story back: until it is taken again, its last dev may return and read what waits for it."""

PAYLOAD_FIELDS: dict[str, type] = {
    "story_id": str, "story_code": str, "branch_name": str, "qa_report_id": str, "findings": list, "commit_sha": str,
    "reason": str, "question": str, "wave_id": str, "stats": dict, "text": str, "answers": str,
}  # fmt: skip
"""The JSON type of each payload field that a signal may require."""

STATUS_RANK: dict[SignalStatus, int] = {
    SignalStatus.PENDING: 0, SignalStatus.ACKNOWLEDGED: 1, SignalStatus.EXPIRED: 2, SignalStatus.PROCESSED: 3,
}  # fmt: skip
"""A signal's own status is the lowest of its deliveries' by this order."""


@dataclass(frozen=True, slots=True)
class SessionAction:
    """What an event does to the status of the session concerned."""

    name: str
    frm: tuple[SessionStatus, ...]
    to: SessionStatus


_A = SessionStatus
_LIVE = tuple(s for s in SessionStatus if s is not SessionStatus.TERMINATED)
SESSION_ACTIONS: dict[str, SessionAction] = {
    a.name: a
    for a in (
        SessionAction("register", (_A.TERMINATED,), _A.STARTING),
        SessionAction("takeover", _LIVE, _A.STARTING),
        SessionAction("seen", (_A.STARTING,), _A.ACTIVE),
        SessionAction("hold", _LIVE, _A.ACTIVE),
        SessionAction("start", _LIVE, _A.WORKING),
        SessionAction("let go", _LIVE, _A.IDLE),
        SessionAction("block", _LIVE, _A.BLOCKED),
        SessionAction("unblock", (_A.BLOCKED,), _A.WORKING),
        SessionAction("end", _LIVE, _A.TERMINATED),
    )
}

TTL_RUNNER, TTL_HAND = 120, 8 * 3600
"""Seconds of silence after which a session is terminated: launched by the runner, registered by hand."""

MAX_CHAIN_DEPTH = 8
"""A reply carries its cause; a longer chain is a storm."""
