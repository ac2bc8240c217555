"""The story JSON of the specification's family (schema 4.2 and 4.3): a file a story, waves by number."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.domain.plan import Criterion, Place, Plan, PlannedStory, PlannedWave, Problem, Source
from orchestrator.plans.documents import BrokenDocument, Document, plain
from orchestrator.plans.sources import Reading, Sources, priority_of

NAME = "story-json"
SUFFIXES = (".json",)
_SIGN = re.compile(r'"story_id"\s*:')
_MAX_WAVE = 1_000_000
# What becomes a field of the story itself. Everything else is kept in the metadata under its own name.
_TAKEN = frozenset(
    {"story_id", "title", "domain", "type", "wave_number", "priority", "story_points", "description"}
    | {"acceptance_criteria", "dependencies"}
)
_FILES = {"create": "Files to create", "modify": "Files to change", "forbidden": "Files not to touch"}


def looks_right(document: Document) -> bool:
    """Whether this file seems to be such a story, even if it is broken. BrokenDocument: it has no text at all."""
    return bool(_SIGN.search(document.text()))


def read(sources: Sources) -> Reading:
    """The plan of these story files, and every error in their form.

    Dependencies are the union of ``required_before`` (what the story needs) and ``blocks`` (what needs the story).
    Wave n waits for the wave before it. The source's progress is not taken over.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    stories: list[_Story] = []
    for document in sources.documents(SUFFIXES):
        try:
            if not document.named and not looks_right(document):
                notes.append(f"{document.name} was left out: it is no story")
                continue
            root, found = document.tree()
        except BrokenDocument as error:
            problems.append(error.problem)
            continue
        problems.extend(found)
        stories.append(_Story(document, root, problems))
    return _assemble(stories, problems, notes)


@dataclass(frozen=True, slots=True)
class _Edge:
    story: str
    needs: str
    place: Place
    by: str


class _Story:
    """One file: its fields, taken with a check of their type."""

    def __init__(self, document: Document, root: Any, problems: list[Problem]) -> None:
        self.document, self.root, self.problems = document, root, problems
        self.planned: PlannedStory | None = None
        self.edges: list[_Edge] = []
        self.wave: int | None = None
        self.code = ""
        self.status = ""
        if not isinstance(root, dict):
            self._add((), "a story is a JSON object with a story_id")
            return
        before = len(problems)
        self.code = self._take("story_id", str, None) or ""
        self.wave = self._wave()
        planned = PlannedStory(
            code=self.code,
            wave="" if self.wave is None else wave_code(self.wave),
            title=self._take("title", str, None) or "",
            domain=self._take("domain", str, None) or "",
            description=self._description(),
            criteria=self._criteria(),
            story_type=self._take("type", str, "feature") or "",
            priority=self._priority(),
            points=self._take("story_points", int, 1) or 0,
            metadata=self._metadata(),
        )
        self._dependencies()
        status = root.get("status")
        self.status = status if isinstance(status, str) else "none"
        if len(problems) == before:
            self.planned = replace(planned, source=self._source())

    def _take(self, key: str, kind: type[Any], default: Any) -> Any:
        value = self.root.get(key)
        if value is None:
            if default is None:
                self._add((key,), "is missing")
            return default
        if not isinstance(value, kind) or isinstance(value, bool):
            self._add((key,), f"must be {'a text' if kind is str else 'a whole number'}, not {ascii(value)[:60]}")
            return default
        return value

    def _wave(self) -> int | None:
        number = self._take("wave_number", int, None)
        if number is not None and not 0 <= number <= _MAX_WAVE:
            self._add(("wave_number",), f"must be from 0 to {_MAX_WAVE}")
            return None
        return number if isinstance(number, int) else None

    def _priority(self) -> int:
        value = self.root.get("priority", 1)
        if isinstance(value, str):
            value = priority_of(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self._add(("priority",), f"must be P0, P1 and so on, or a whole number from 1, not {ascii(value)[:60]}")
        return 1

    def _criteria(self) -> tuple[Criterion, ...]:
        taken = []
        for index, raw in enumerate(self._list("acceptance_criteria")):
            at = ("acceptance_criteria", index)
            if isinstance(raw, str):
                taken.append(Criterion(raw))
            elif not isinstance(raw, dict):
                self._add(at, "must be an object with id and description")
            else:
                text, ident = raw.get("description"), raw.get("id")
                if not isinstance(text, str):
                    self._add((*at, "description"), "is missing" if text is None else "must be a text")
                elif ident is not None and not isinstance(ident, str):
                    self._add((*at, "id"), "must be a text")
                else:
                    taken.append(Criterion(text, ident))
        return tuple(taken)

    def _description(self) -> str | None:
        parts = [self._take("description", str, "") or ""]
        objective = self.root.get("objective")
        if isinstance(objective, dict):
            who, what, why = (objective.get(key) for key in ("as_a", "i_want", "so_that"))
            if isinstance(who, str) and isinstance(what, str):
                parts.append(f"As a {who}, I want {what}" + (f", so that {why}." if isinstance(why, str) else "."))
        files = self.root.get("files")
        if isinstance(files, dict):
            for key, heading in _FILES.items():
                listed = files.get(key)
                if isinstance(listed, list) and listed:
                    parts.append("\n".join([f"{heading}:", *(f"- {one}" for one in listed)]))
        return "\n\n".join(part for part in parts if part) or None

    def _metadata(self) -> dict[str, Any]:
        kept = {key: plain(value) for key, value in self.root.items() if key not in _TAKEN}
        criteria = self.root.get("acceptance_criteria")
        if isinstance(criteria, list):
            # How a criterion is to be tested and the like; its text stands in the criterion.
            details = [
                {k: plain(v) for k, v in one.items() if k != "description"} for one in criteria if _has_details(one)
            ]
            if details:
                kept["acceptance_criteria"] = details
        return kept

    def _dependencies(self) -> None:
        dependencies = self.root.get("dependencies")
        if dependencies is None:
            return
        if not isinstance(dependencies, dict):
            self._add(("dependencies",), "must be an object with required_before and blocks")
            return
        for key in ("required_before", "blocks"):
            listed = dependencies.get(key)
            if listed is not None and not isinstance(listed, list):
                self._add(("dependencies", key), "must be a list of story ids")
                continue
            for index, other in enumerate(listed or ()):
                loc = ("dependencies", key, index)
                if not isinstance(other, str):
                    self._add(loc, f"must be a story id, not {ascii(other)[:60]}")
                    continue
                place = self.document.place(self.root, loc)
                story, needs = (self.code, other) if key == "required_before" else (other, self.code)
                self.edges.append(_Edge(story, needs, place, key))

    def _source(self) -> Source:
        names = {"code": "story_id", "wave": "wave_number", "type": "type", "points": "story_points"}
        names |= {key: key for key in ("title", "domain", "description", "priority")} | {
            "criteria": "acceptance_criteria"
        }
        places = {name: self._place((key,)) for name, key in names.items()}
        for index, _ in enumerate(self._list("acceptance_criteria")):
            for name, key in (("text", "description"), ("id", "id")):
                places[f"criteria[{index}].{name}"] = self._place(("acceptance_criteria", index, key))
        return Source(self.document.name, 1, "", places)

    def _list(self, key: str) -> list[Any]:
        value = self.root.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self._add((key,), "must be a list")
        return []

    def _place(self, loc: tuple[str | int, ...]) -> Place:
        return self.document.place(self.root, loc)

    def _add(self, loc: tuple[str | int, ...], message: str) -> None:
        place = self._place(loc)
        self.problems.append(Problem(place.file, place.line, place.field, message))


def wave_code(number: int) -> str:
    """The code of wave ``number``."""
    return f"W{number}"


def _has_details(criterion: Any) -> bool:
    return isinstance(criterion, dict) and bool(criterion.keys() - {"id", "description"})


def _assemble(stories: list[_Story], problems: list[Problem], notes: list[str]) -> Reading:
    planned = [story.planned for story in stories if story.planned is not None]
    codes = {story.code for story in stories if story.code}
    after: dict[str, dict[str, Place]] = {}
    edges = [edge for story in stories for edge in story.edges]
    for edge in edges:
        if edge.by == "blocks" and edge.story not in codes:
            message = f"story {edge.story[:60]!r}, which this one blocks, is not among the files"
            problems.append(Problem(edge.place.file, edge.place.line, edge.place.field, message))
        else:
            after.setdefault(edge.story, {}).setdefault(edge.needs, edge.place)
    complete = tuple(_with_dependencies(story, after.get(story.code, {})) for story in planned)
    numbers = sorted({story.wave for story in stories if story.wave is not None})
    waves = tuple(
        PlannedWave(
            code=wave_code(number),
            name=f"Wave {number}",
            after=(wave_code(numbers[index - 1]),) if index else (),
            source=_first_of(number, stories),
        )
        for index, number in enumerate(numbers)
    )
    notes += _notes(stories, edges, sum(len(needs) for needs in after.values()), len(waves))
    broken = codes - {story.code for story in planned}
    return Reading(Plan(waves, complete, NAME, tuple(notes)), tuple(problems), frozenset(), frozenset(broken))


def _with_dependencies(story: PlannedStory, needs: dict[str, Place]) -> PlannedStory:
    source = story.source
    if source is not None:
        source = replace(source, places={**source.places, **{f"after:{code}": place for code, place in needs.items()}})
    return replace(story, after=tuple(needs), source=source)


def _first_of(number: int, stories: list[_Story]) -> Source | None:
    for story in stories:
        if story.wave == number:
            place = story.document.place(story.root, ("wave_number",))
            return Source(place.file, place.line, "", dict.fromkeys(("code", "name", "after"), place))
    return None


def _notes(stories: list[_Story], edges: list[_Edge], union: int, waves: int) -> list[str]:
    listed = Counter(edge.by for edge in edges)
    statuses = ", ".join(
        f"{count} {name}" for name, count in Counter(story.status for story in stories).most_common(10)
    )
    return [
        f"{len(stories)} stories in {waves} waves; each wave waits for the one before it.",
        f"{union} dependencies, united from {listed['required_before']} required_before and {listed['blocks']} blocks.",
        f"Status in the source: {statuses}. Every story enters as backlog; its metadata keep the status.",
    ]
