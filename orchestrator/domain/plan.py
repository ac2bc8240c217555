"""A plan as every importer yields it: waves, stories and what waits for what. Plain data, no file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Place:
    """One spot in a source: ``line`` is 1-based and None where the format has none, ``field`` a dotted path there."""

    file: str
    line: int | None = None
    field: str = ""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a wave or story came from, so that a problem found later can still name file, line and field.

    ``places`` goes from the plan's own names (``title``, ``criteria[0].id``, ``after:S-1``) to their spots there.
    """

    file: str
    line: int | None = None
    path: str = ""
    places: Mapping[str, Place] = field(default_factory=dict, repr=False)

    def at(self, name: str) -> Place:
        """The spot of the plan's field ``name``; where the source has none of its own, the item's."""
        known = self.places.get(name)
        if known is not None:
            return known
        name = name.partition(":")[0]
        return Place(self.file, self.line, f"{self.path}.{name}" if self.path else name)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a plan. ``field`` is a dotted path such as ``stories[3].domain``."""

    file: str
    line: int | None
    field: str
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return ": ".join(part for part in (place, self.field, self.message) if part)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One acceptance criterion; ``id`` is the source's own, kept."""

    text: str
    id: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """A wave. ``after``: codes of the waves that must be completed first; ``manual``: it waits for ``wave start``."""

    code: str
    name: str
    description: str | None = None
    priority: int = 1
    after: tuple[str, ...] = ()
    manual: bool = False
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class PlannedStory:
    """A story. ``after`` holds the codes of the stories that must be completed first; priority 1 is the most urgent."""

    code: str
    wave: str
    title: str
    domain: str
    description: str | None = None
    criteria: tuple[Criterion, ...] = ()
    story_type: str = "feature"
    priority: int = 1
    points: int = 1
    after: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole plan in the source's order. ``notes`` say what was read but not taken over (for the import report)."""

    waves: tuple[PlannedWave, ...]
    stories: tuple[PlannedStory, ...]
    format: str
    notes: tuple[str, ...] = ()
