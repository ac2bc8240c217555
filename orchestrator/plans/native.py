"""maf's own plan format: YAML, or the same as JSON (``docs/plan-format.md``)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from orchestrator.domain.plan import Criterion, Place, Plan, PlannedStory, PlannedWave, Problem, Source
from orchestrator.plans.documents import BrokenDocument, Document, plain
from orchestrator.plans.sources import Reading, Sources

NAME = "native"
MAX_PROBLEMS = 10_000  # who has more needs no further ones
SUFFIXES = (".yaml", ".yml", ".json")
_YAML_HEAD = re.compile(r"""^\s*["']?(maf|waves|stories)["']?\s*:""", re.MULTILINE)
_JSON_HEAD = re.compile(r'"maf"\s*:\s*[0-9"]')


def looks_right(document: Document) -> bool:
    """Whether this file seems to be one of ours, even if it is broken. BrokenDocument: it has no text at all."""
    return bool((_JSON_HEAD if document.is_json else _YAML_HEAD).search(document.text()))


def read(sources: Sources) -> Reading:
    """The plan in these files, and every error in their form."""
    collector = _Collector()
    for document in sources.documents(SUFFIXES):
        if not document.named and not _ours(document):
            collector.notes.append(f"{document.name} was left out: it is no plan of maf")
            continue
        try:
            root, found = document.tree()
        except BrokenDocument as error:
            collector.problems.append(error.problem)
            continue
        collector.file(document, root, found)
    return collector.reading()


def _ours(document: Document) -> bool:
    try:
        return looks_right(document)
    except BrokenDocument:
        return True  # read it and say what is wrong


class _Collector:
    """Gathers waves and stories over all files; what has an error in its shape is left out, its code remembered."""

    def __init__(self) -> None:
        self.waves: list[PlannedWave] = []
        self.stories: list[PlannedStory] = []
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._broken_waves: set[str] = set()
        self._broken_stories: set[str] = set()
        self._told: set[str] = set()

    def reading(self) -> Reading:
        plan = Plan(tuple(self.waves), tuple(self.stories), NAME, tuple(self.notes))
        return Reading(plan, tuple(self.problems), frozenset(self._broken_waves), frozenset(self._broken_stories))

    def file(self, document: Document, root: Any, found: list[Problem]) -> None:
        from orchestrator.plans.native_model import PlanModel, TopStoryModel

        here = _Here(document, root, ())
        self.problems.extend(found)
        self._told = {one.field for one in found}  # what stands there instead is no further error
        if not isinstance(root, dict):
            self.problems.append(here.problem((), "a plan is a mapping that starts with 'maf: 1'"))
            return
        if "maf" not in root:
            self.problems.append(here.problem(("maf",), "is missing; write 'maf: 1', the version of the format"))
            self._shape(PlanModel, {**root, "maf": 1}, here)
        elif type(root["maf"]) is int and root["maf"] != 1:
            message = f"version {ascii(root['maf'])[:20]} is not known; this maf reads version 1"
            self.problems.append(here.problem(("maf",), message))
            return
        elif root["maf"] is True:  # which Python takes for 1
            self.problems.append(here.problem(("maf",), "must be 1, not true"))
        else:
            self._shape(PlanModel, root, here)
        for index, raw in enumerate(_list(root.get("waves"))):
            if len(self.problems) >= MAX_PROBLEMS:
                return
            self._wave(here.below("waves", index), raw)
        for index, raw in enumerate(_list(root.get("stories"))):
            if len(self.problems) >= MAX_PROBLEMS:
                return
            self._story(here.below("stories", index), raw, TopStoryModel, None)

    def _wave(self, here: _Here, raw: Any) -> None:
        from orchestrator.plans.native_model import StoryModel, WaveModel

        model = self._shape(WaveModel, raw, here)
        code = _code(raw)
        if model is None:
            self._broken_waves.update(code)
        else:
            self.waves.append(
                PlannedWave(
                    code=model.code,
                    name=model.name,
                    description=model.description,
                    priority=model.priority,
                    after=tuple(model.after),
                    manual=model.start == "manual",
                    source=here.source(raw),
                )
            )
        if isinstance(raw, dict):
            for index, story in enumerate(_list(raw.get("stories"))):
                if len(self.problems) >= MAX_PROBLEMS:
                    return
                self._story(here.below("stories", index), story, StoryModel, next(iter(code), ""))

    def _story(self, here: _Here, raw: Any, shape: type[Any], wave: str | None) -> None:
        model = self._shape(shape, raw, here)
        if model is None or wave == "":
            self._broken_stories.update(_code(raw))
            return
        self.stories.append(
            PlannedStory(
                code=model.code,
                wave=model.wave if wave is None else wave,
                title=model.title,
                domain=model.domain,
                description=model.description,
                criteria=tuple(Criterion(one.text, one.id) for one in model.criteria),
                story_type=model.type,
                priority=model.priority,
                points=model.points,
                after=tuple(model.after),
                metadata=plain(model.metadata),
                source=here.source(raw),
            )
        )

    def _shape(self, model: type[Any], raw: Any, here: _Here) -> Any:
        from orchestrator.plans.native_model import validate

        valid, errors = validate(model, raw)
        found = [here.problem(loc, message) for loc, message in errors]
        self.problems.extend(one for one in found if one.field not in self._told)
        return valid


class _Here:
    """A spot in a document."""

    def __init__(self, document: Document, root: Any, loc: tuple[str | int, ...]) -> None:
        self._document, self._root, self._loc = document, root, loc

    def below(self, *loc: str | int) -> _Here:
        return _Here(self._document, self._root, (*self._loc, *loc))

    def place(self, *loc: str | int) -> Place:
        return self._document.place(self._root, (*self._loc, *loc))

    def problem(self, loc: Iterable[str | int], message: str) -> Problem:
        place = self.place(*loc)
        return Problem(place.file, place.line, place.field, message)

    def source(self, raw: Any) -> Source:
        own = self.place()
        places = {key: self.place(key) for key in raw}
        for index, other in enumerate(raw.get("after", ())):
            places.setdefault(f"after:{other}", self.place("after", index))
        for index, criterion in enumerate(raw.get("criteria", ())):
            at = f"criteria[{index}]"
            inside = isinstance(criterion, dict)
            places[f"{at}.text"] = self.place("criteria", index, "text") if inside else self.place("criteria", index)
            places[f"{at}.id"] = self.place("criteria", index, "id")
        return Source(own.file, own.line, own.field, places)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _code(raw: Any) -> Collection[str]:
    """The code of an entry whose shape may be wrong, if it has one."""
    code = raw.get("code") if isinstance(raw, dict) else None
    return {code} if isinstance(code, str) else set()
