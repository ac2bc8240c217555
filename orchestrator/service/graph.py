"""Dependencies of stories and waits of waves: one graph, without a circle, checked at every write."""

from __future__ import annotations

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.planning import find_cycle
from orchestrator.store import Reader


def refuse_cycle(reader: Reader) -> None:
    """InvalidInput if the store's graph (this transaction's writes included) has a circle; it is named.

    A story waits for the stories it depends on and for the waves that its wave waits for; a wave waits for its stories.
    """
    edges: dict[str, list[str]] = {}
    for edge in reader.all("story.edges"):
        edges.setdefault(f"story {edge['code']}", []).append(f"story {edge['after']}")
    waits: dict[str, list[str]] = {}
    for edge in reader.all("wave.edges"):
        waits.setdefault(edge["code"], []).append(edge["after"])
        # A wave without stories still waits.
        edges.setdefault(f"wave {edge['code']}", []).append(f"wave {edge['after']}")
    for pair in reader.all("story.wave_pairs"):
        edges.setdefault(f"wave {pair['wave_code']}", []).append(f"story {pair['story_code']}")
        for other in waits.get(pair["wave_code"], ()):
            edges.setdefault(f"story {pair['story_code']}", []).append(f"wave {other}")
    cycle = find_cycle(edges)
    if cycle:
        raise InvalidInput(
            f"these wait for each other: {' -> '.join(cycle)}", hint="Remove one of these dependencies.", cycle=list(cycle)
        )
