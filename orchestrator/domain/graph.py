"""Graphs of what waits for what: cycles, critical paths, the order of ready stories.

Everything here is iterative: a chain of 10,000 stories is a legal plan.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from orchestrator.domain.errors import InvalidInput

T = TypeVar("T", bound=Hashable)

# ("story", code) · ("start", wave code) · ("end", wave code)
Node = tuple[str, str]

_SHOWN_STEPS = 60


def find_cycle(edges: Mapping[T, Collection[T]]) -> list[T] | None:
    """One cycle of ``edges`` (node → what it waits for) as ``[a, b, …, a]``, or None where there is none."""
    done: set[T] = set()
    for root in edges:
        if root in done:
            continue
        path: list[T] = [root]
        on_path = {root}
        stack: list[Iterator[T]] = [iter(edges[root])]
        while stack:
            target = next(stack[-1], None)
            if target is None:
                stack.pop()
                node = path.pop()
                on_path.discard(node)
                done.add(node)
            elif target in on_path:
                return [*path[path.index(target) :], target]
            elif target not in done:
                path.append(target)
                on_path.add(target)
                stack.append(iter(edges.get(target, ())))
    return None


def waiting_graph(
    wave_of: Mapping[str, str],
    stories_after: Mapping[str, Collection[str]],
    waves_after: Mapping[str, Collection[str]],
) -> dict[Node, list[Node]]:
    """The one graph of story dependencies and wave waits, for ``find_cycle``.

    ``wave_of`` gives each story's wave, ``stories_after`` and ``waves_after`` what each must wait for. A story waits
    for its dependencies and for the start of its wave; a wave's start waits for the end of those before it; a wave's
    end waits for its start and all its stories.
    """
    graph: dict[Node, list[Node]] = {}
    for wave in {**dict.fromkeys(waves_after), **dict.fromkeys(wave_of.values())}:
        graph["start", wave] = [("end", other) for other in waves_after.get(wave, ())]
        graph["end", wave] = [("start", wave)]
    for story, wave in wave_of.items():
        graph["story", story] = [("story", other) for other in stories_after.get(story, ())]
        graph["story", story].append(("start", wave))
        graph["end", wave].append(("story", story))
    return graph


def describe_cycle(cycle: Sequence[Node]) -> str:
    """A cycle of ``waiting_graph`` in words, each waiting for the next: ``story S-1 -> wave W2 -> story S-1``."""
    # A wave's start and end may follow each other: name the wave once.
    steps: list[str] = []
    for kind, code in cycle:
        name = f"story {code}" if kind == "story" else f"wave {code}"
        if not steps or steps[-1] != name:
            steps.append(name)
    if len(steps) > _SHOWN_STEPS:
        left_out = len(steps) - _SHOWN_STEPS
        steps[_SHOWN_STEPS // 2 : -_SHOWN_STEPS // 2] = [f"({left_out} more)"]
    return " -> ".join(steps)


def critical_path(stories_after: Mapping[str, Collection[str]], weight: Mapping[str, int]) -> dict[str, int]:
    """For each story the weight of the heaviest chain that starts with it and goes on through what waits for it.

    ``stories_after`` gives each story's dependencies; those that are no key of it (completed ones, say) count for
    nothing. A story without a ``weight`` weighs 1. Raises InvalidInput where the dependencies have a cycle.
    """
    after = {story: {other for other in others if other in stories_after} for story, others in stories_after.items()}
    waiting = dict.fromkeys(after, 0)
    for others in after.values():
        for other in others:
            waiting[other] += 1
    ready = [story for story, count in waiting.items() if count == 0]
    heaviest_behind = dict.fromkeys(after, 0)
    result: dict[str, int] = {}
    while ready:
        story = ready.pop()
        result[story] = weight.get(story, 1) + heaviest_behind[story]
        for other in after[story]:
            heaviest_behind[other] = max(heaviest_behind[other], result[story])
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    if len(result) < len(after):
        cycle = find_cycle(after) or []
        raise InvalidInput(
            f"the dependencies form a cycle: {describe_cycle([('story', code) for code in cycle])}",
            hint="Remove one of these dependencies.",
        )
    return result


def ready_order(priority: int, critical: int, code: str) -> tuple[int, int, tuple[tuple[int, str], ...]]:
    """The sort key of stories that could be assigned: most urgent, then longest critical path, then code.

    Numbers in a code count as numbers: S-2 comes before S-10.
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", code)
    return priority, -critical, tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
