"""What the runner tells the world while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: ``kind`` for programs, ``text`` one line for people, ``at`` by the store's clock."""

    kind: str
    text: str
    at: str
    story: str | None = None
    agent: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """A JSON line's object."""
        return {"event": self.kind, **{k: v for k, v in asdict(self).items() if k != "kind" and v not in (None, {})}}


Report = Callable[[Event], None]


def one_line(why: str) -> str:
    """A reason on one line: what happened, and of an agent's output only how it ended."""
    first, *rest = why.splitlines() or [""]
    return f"{first} {rest[-1].strip()}" if rest and first.endswith(":") else first
