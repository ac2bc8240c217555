"""The one tree of errors.

::

    MafError
    ├── Refused            exit 1   a rule says no
    │   ├── WrongRole               the agent's role may not do this
    │   ├── WrongState              the story, wave, signal or session is not in the state this needs
    │   ├── GuardFailed             a condition of the action does not hold
    │   └── GateFailed              a gate's check ran and did not pass, or could not run
    ├── InvalidInput       exit 2   wrong usage or input
    │   └── InvalidPlan             a plan file has errors (all of them in ``details["problems"]``)
    ├── NotFound           exit 3   no such story, wave, agent, signal
    ├── LostRace           exit 4   somebody else was first
    │   ├── StaleToken              the fencing token is not that of the open assignment
    │   └── SessionEnded            the session is terminated, expired, or of an older epoch
    ├── StoreUnavailable   exit 5   the store cannot be reached or used
    │   └── SchemaMismatch          its schema is newer, older or unknown
    └── TimedOut           exit 6   waited in vain

Faces print ``message`` and ``hint`` and leave with ``exit_code``; they never translate.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MafError(Exception):
    """Base of everything maf raises on purpose.

    ``code`` is stable for programs, ``exit_code`` is the command's, ``http_status`` a web face's.
    ``hint`` names the next step or the fix. ``details`` is JSON-serialisable.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def as_dict(self) -> dict[str, Any]:
        """The ``error`` member of the JSON envelope."""
        body: dict[str, Any] = {"code": self.code, "message": self.message, "hint": self.hint}
        if self.details:
            body["details"] = self.details
        return body


class Refused(MafError):
    """A rule of the workflow says no."""

    code, exit_code, http_status = "refused", 1, 409


class WrongRole(Refused):
    """The agent's role may not do this."""

    code, http_status = "wrong_role", 403


class WrongState(Refused):
    """The thing is not in the state that this action needs."""

    code = "wrong_state"


class GuardFailed(Refused):
    """A condition of the action does not hold."""

    code = "guard_failed"


class GateFailed(Refused):
    """A gate's check ran and did not pass, or could not run; ``details`` carry the evidence."""

    code = "gate_failed"


class InvalidInput(MafError):
    """Wrong usage or input."""

    code, exit_code, http_status = "invalid_input", 2, 400


class InvalidPlan(InvalidInput):
    """A plan has errors; ``details["problems"]`` is a list of {file, line, field, message}."""

    code = "invalid_plan"


class NotFound(MafError):
    """No such story, wave, agent or signal."""

    code, exit_code, http_status = "not_found", 3, 404


class LostRace(MafError):
    """Somebody else was first."""

    code, exit_code, http_status = "lost_race", 4, 409


class StaleToken(LostRace):
    """The fencing token is not that of the story's open assignment."""

    code = "stale_token"


class SessionEnded(LostRace):
    """The session is terminated, past its lease, or of an older epoch."""

    code = "session_ended"


class StoreUnavailable(MafError):
    """The store cannot be reached or used."""

    code, exit_code, http_status = "store_unavailable", 5, 503


class SchemaMismatch(StoreUnavailable):
    """The store's schema is newer, older or unknown to this version."""

    code = "schema_mismatch"


class TimedOut(MafError):
    """Waited in vain."""

    code, exit_code, http_status = "timed_out", 6, 504
