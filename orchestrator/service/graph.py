"""Dependencies of stories and waits of waves: one graph, without a circle, checked at every write."""

from __future__ import annotations

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.graph import describe_cycle, find_cycle, waiting_graph
from orchestrator.store import Reader


def edges_of(reader: Reader, query: str) -> dict[str, list[str]]:
    """``story.edges`` or ``wave.edges`` as code → the codes it waits for."""
    found: dict[str, list[str]] = {}
    for edge in reader.all(query):
        found.setdefault(edge["code"], []).append(edge["after"])
    return found


def refuse_cycle(reader: Reader) -> None:
    """InvalidInput if the store's graph (this transaction's writes included) has a circle; it is named."""
    wave_of = {pair["story_code"]: pair["wave_code"] for pair in reader.all("story.wave_pairs")}
    stories_after = edges_of(reader, "story.edges")
    for story in stories_after:
        wave_of.setdefault(story, "")
    cycle = find_cycle(waiting_graph(wave_of, stories_after, edges_of(reader, "wave.edges")))
    if cycle:
        raise InvalidInput(
            f"these wait for each other: {describe_cycle(cycle)}", hint="Remove one of these dependencies."
        )
