"""200 stories through all gates with real git and four agents, against a shell script that does the same bare."""

from __future__ import annotations

import itertools
import statistics
from dataclasses import asdict
from typing import Any

from benchmarks import sample
from benchmarks.common import ROOT, Figure, Place, Size
from orchestrator.domain import moments
from orchestrator.store import open_store

TARGET = 1.5
AGENTS = 4


def _ours(place: Place, store: str, count: int) -> tuple[sample.Took, dict[str, Any]]:
    folder = sample.repository(place.new("repository"))
    sample.configure(folder, agents=AGENTS)
    url = place.store(store)
    sample.plan(url, count)
    took = sample.timed(sample.maf(url, "run", "--json"), folder, place.new("log") / "run.jsonl")
    _same(sample.tree(folder), count)
    where = _where(url)
    sample.discard(folder)
    place.drop(url)
    return took, where


def _bare(place: Place, count: int) -> sample.Took:
    folder = sample.repository(place.new("repository"))
    sample.configure(folder, agents=AGENTS)
    work = sample.WORK.replace("{story}", "$story")
    argv = ["sh", str(ROOT / "benchmarks" / "one_after_another.sh"), str(place.new("worktrees")), *sample.codes(count)]
    took = sample.timed(argv, folder, place.new("log") / "bare.log", WORK=work, CHECK="true")
    _same(sample.tree(folder), count)
    sample.discard(folder)
    return took


def _same(tree: dict[str, Any], count: int) -> None:
    expected = [f"file-{code}" for code in sample.codes(count)]
    if tree["files"] != expected or tree["merges"] != count:
        raise RuntimeError(f"{len(tree['files'])} of {count} files and {tree['merges']} merges are on main")


def _where(url: str) -> dict[str, Any]:
    """Median seconds that a story spends before each gate, and how many are past it each second."""
    with open_store(url) as store:
        _, rows = store.engine.raw(
            "SELECT story_id, to_gate, created_at FROM gate_transitions ORDER BY story_id, created_at"
        )
    spent: dict[str, list[float]] = {}
    for _, found in itertools.groupby(rows, key=lambda row: row[0]):
        for earlier, later in itertools.pairwise(list(found)):
            spent.setdefault(f"gate {earlier[1]}", []).append(moments.between(str(earlier[2]), str(later[2])))
    return {gate: round(statistics.median(times), 4) for gate, times in sorted(spent.items())}


def measure(place: Place, store: str, size: Size) -> list[Figure]:
    count, rounds = size.of(200, 40, 3), size.of(3, 2, 1)
    ours: list[sample.Took] = []
    bare: list[sample.Took] = []
    where: dict[str, Any] = {}
    for turn in range(rounds):
        for mine in (True, False) if turn % 2 == 0 else (False, True):
            if mine:
                took, where = _ours(place, store, count)
                ours.append(took)
            else:
                bare.append(_bare(place, count))
    ratios = [a.wall / b.wall for a, b in zip(ours, bare, strict=True)]
    return [Figure(
        "two_hundred", store, "s", statistics.median(t.wall for t in ours), statistics.median(t.wall for t in bare),
        statistics.median(ratios), TARGET,
        {
            "stories": count, "agents": AGENTS, "ratios": [round(r, 3) for r in ratios],
            "ours": [asdict(t) for t in ours], "floor": [asdict(t) for t in bare], "median_seconds_before": where,
        },
    )]  # fmt: skip
