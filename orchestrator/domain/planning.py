"""The rules that a plan must hold, whatever file or call it came from. Pure: a plan in, its problems out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from orchestrator.domain import names
from orchestrator.domain.errors import InvalidInput, InvalidPlan
from orchestrator.domain.graph import Node, critical_path, describe_cycle, find_cycle, ready_order, waiting_graph
from orchestrator.domain.plan import Place, Plan, PlannedStory, PlannedWave, Problem, Source

__all__ = [
    "MAX_INTEGER",
    "PlanSummary",
    "critical_path",
    "describe_cycle",
    "find_cycle",
    "invalid_plan",
    "problems",
    "ready_order",
    "summary",
    "waiting_graph",
]

MAX_INTEGER = 2_147_483_647  # an INTEGER of Postgres
_TITLE, _SHORT, _CRITERION = 255, 50, 10_000
_MAX_CYCLES = 10
_MAX_REPORTED = 200


def problems(plan: Plan, *, known_waves: Collection[str] = (), known_stories: Collection[str] = ()) -> list[Problem]:
    """Everything wrong with ``plan``, each once, in the plan's order; empty where it can be imported as it stands.

    ``known_waves`` and ``known_stories`` are codes outside the plan (in the store) that it may refer to.
    """
    report = _Report()
    if not plan.waves and not plan.stories:
        report.add(None, "", "the plan is empty: it has no wave and no story")
    for wave in plan.waves:
        _check_wave(report, wave)
    for story in plan.stories:
        _check_story(report, story)
    _check_duplicates(report, "wave", plan.waves)
    _check_duplicates(report, "story", plan.stories)
    waves = {wave.code for wave in plan.waves} | set(known_waves)
    stories = {story.code for story in plan.stories} | set(known_stories)
    for wave in plan.waves:
        _check_after(report, wave, "wave", waves)
    for story in plan.stories:
        if story.wave not in waves:
            report.add(story.source, "wave", f"wave {story.wave[:60]!r} does not exist")
        _check_after(report, story, "story", stories)
    _check_cycles(report, plan)
    return report.found


def invalid_plan(found: Sequence[Problem]) -> InvalidPlan:
    """The error that carries ``found`` (at least one): the first in the message, all of them in the details."""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    listed = [
        {"file": one.file, "line": one.line, "field": one.field, "message": one.message}
        for one in found[:_MAX_REPORTED]
    ]
    return InvalidPlan(
        f"{found[0]}{more}",
        hint="Correct the plan and import it again; nothing was written.",
        problems=listed,
        count=len(found),
    )


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a plan holds, in numbers."""

    waves: int
    stories: int
    dependencies: int
    wave_waits: int
    criteria: int
    points: int
    stories_by_wave: dict[str, int]
    stories_by_domain: dict[str, int]


def summary(plan: Plan) -> PlanSummary:
    """Count what ``plan`` holds; the maps keep the plan's order, and a wave without stories stands with 0."""
    by_wave = dict.fromkeys((wave.code for wave in plan.waves), 0)
    for story in plan.stories:
        by_wave[story.wave] = by_wave.get(story.wave, 0) + 1
    return PlanSummary(
        waves=len(plan.waves),
        stories=len(plan.stories),
        dependencies=sum(len(story.after) for story in plan.stories),
        wave_waits=sum(len(wave.after) for wave in plan.waves),
        criteria=sum(len(story.criteria) for story in plan.stories),
        points=sum(story.points for story in plan.stories),
        stories_by_wave=by_wave,
        stories_by_domain=dict(Counter(story.domain for story in plan.stories)),
    )


class _Report:
    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, source: Source | None, name: str, message: str) -> None:
        place = source.at(name) if source else Place("", None, name)
        self.found.append(Problem(place.file, place.line, place.field, message))

    def hold(self, source: Source | None, name: str, rule: Callable[[], object]) -> None:
        """Run a rule of ``names``; its refusal becomes a problem."""
        try:
            rule()
        except InvalidInput as error:
            self.add(source, name, f"{error.message}. {error.hint}" if error.hint else error.message)

    def integer(self, source: Source | None, name: str, value: int, least: int) -> None:
        if not least <= value <= MAX_INTEGER:
            self.add(source, name, f"{name} must be a whole number from {least} to {MAX_INTEGER}")


def _check_wave(report: _Report, wave: PlannedWave) -> None:
    source = wave.source
    report.hold(source, "code", partial(names.code, wave.code, "wave code"))
    report.hold(source, "name", partial(names.text, wave.name, "name", limit=_TITLE, single_line=True))
    if wave.description is not None:
        report.hold(source, "description", partial(names.text, wave.description, "description"))
    report.integer(source, "priority", wave.priority, 1)


def _check_story(report: _Report, story: PlannedStory) -> None:
    source = story.source
    report.hold(source, "code", partial(names.code, story.code, "story code"))
    report.hold(source, "title", partial(names.text, story.title, "title", limit=_TITLE, single_line=True))
    report.hold(source, "domain", partial(names.domain, story.domain))
    report.hold(source, "type", partial(names.text, story.story_type, "type", limit=_SHORT, single_line=True))
    if story.description is not None:
        report.hold(source, "description", partial(names.text, story.description, "description"))
    report.integer(source, "priority", story.priority, 1)
    report.integer(source, "points", story.points, 0)
    report.hold(source, "metadata", partial(names.json_text, story.metadata, "metadata"))
    _check_criteria(report, story)


def _check_criteria(report: _Report, story: PlannedStory) -> None:
    ids: set[str] = set()
    for index, criterion in enumerate(story.criteria):
        at = f"criteria[{index}]"
        if not criterion.text.strip():
            report.add(story.source, f"{at}.text", "the criterion is empty")
        text, ident = criterion.text, criterion.id
        report.hold(story.source, f"{at}.text", partial(names.text, text, "criterion", limit=_CRITERION))
        if ident is None:
            continue
        rule = partial(names.text, ident, "criterion id", limit=_SHORT, single_line=True)
        report.hold(story.source, f"{at}.id", rule)
        if ident in ids:
            report.add(story.source, f"{at}.id", f"criterion id {ident[:60]!r} is used twice in this story")
        ids.add(ident)
    size = sum(len(criterion.text.encode("utf-8", "surrogatepass")) for criterion in story.criteria)
    if size > names.MAX_PAYLOAD_BYTES:
        message = f"the criteria are {size} bytes together; at most {names.MAX_PAYLOAD_BYTES} are allowed"
        report.add(story.source, "criteria", message)


def _check_duplicates(report: _Report, what: str, items: Iterable[PlannedWave | PlannedStory]) -> None:
    first: dict[str, PlannedWave | PlannedStory] = {}
    for item in items:
        earlier = first.setdefault(item.code, item)
        if earlier is not item:
            where = f", first at {earlier.source.at('code')}" if earlier.source else ""
            report.add(item.source, "code", f"{what} code {item.code[:60]!r} is used twice{where}")


def _check_after(report: _Report, item: PlannedWave | PlannedStory, what: str, known: Collection[str]) -> None:
    seen: set[str] = set()
    for other in item.after:
        at = f"after:{other}"
        if other in seen:
            report.add(item.source, at, f"{what} {other[:60]!r} is named twice")
        elif other == item.code:
            report.add(item.source, at, f"{what} {other[:60]!r} cannot wait for itself")
        elif other not in known:
            report.add(item.source, at, f"{what} {other[:60]!r} does not exist")
        seen.add(other)


def _check_cycles(report: _Report, plan: Plan) -> None:
    stories = {story.code: story for story in reversed(plan.stories)}
    waves = {wave.code: wave for wave in reversed(plan.waves)}
    wave_of = {story.code: story.wave for story in plan.stories}
    # What is reported already (dangling, on itself) would only be reported again.
    graph = waiting_graph(
        wave_of,
        {s.code: [o for o in dict.fromkeys(s.after) if o in stories and o != s.code] for s in stories.values()},
        {w.code: [o for o in dict.fromkeys(w.after) if o in waves and o != w.code] for w in waves.values()},
    )
    nodes = [("story", story.code) for story in plan.stories] + [("start", wave.code) for wave in plan.waves]
    position = {node: index for index, node in enumerate(nodes)}
    for _ in range(_MAX_CYCLES):
        cycle = find_cycle(graph)
        if cycle is None:
            return
        steps = list(pairwise(cycle))
        # Report it at a dependency that the plan declares, and take that one away to find the next cycle. Stories come
        # first: where a story and its wave disagree, it is seldom the order of the waves that is wrong.
        node, target = min((step for step in steps if _declared(*step)), key=lambda step: position[step[0]])
        start = steps.index((node, target))
        turned = [*cycle[start:-1], *cycle[: start + 1]]
        item = stories[node[1]] if node[0] == "story" else waves[node[1]]
        report.add(item.source, f"after:{target[1]}", f"each waits for the next, in a circle: {describe_cycle(turned)}")
        graph[node].remove(target)


def _declared(node: Node, target: Node) -> bool:
    """A story's dependency or a wave's wait, not what follows from belonging to a wave."""
    return (node[0], target[0]) in {("story", "story"), ("start", "end")}
