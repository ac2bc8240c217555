"""Claim and inbox behind a long history, against the same behind a short one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import floor, history
from benchmarks.common import Figure, Place, Size, Step, pairs
from benchmarks.story_claim import through_maf
from orchestrator.service import signals
from orchestrator.service.context import Context
from orchestrator.store import Store, open_store

TARGET = 1.3
PENDING = 20


def _inbox(store: Store) -> Step:
    me = Context(store).acting("qa")

    def step() -> Callable[[], object]:
        return partial(signals.inbox, me)

    return step


def measure(place: Place, store: str, size: Size) -> list[Figure]:
    rounds, each, warm = size.of(7, 5, 1), size.of(150, 60, 3), size.of(40, 20, 2)
    long = size.of(100_000, 10_000, 400), size.of(1_000_000, 100_000, 2000)
    short = size.of(1000, 1000, 100), size.of(1000, 1000, 200)
    urls = [place.store(store) for _ in range(2)]
    for url, (stories, past) in zip(urls, (long, short), strict=True):
        history.load(url, stories=stories, signals=past, ready=rounds * each + warm + history.DEVS)
    rooms = [floor.driver(url) for url in urls]
    figures: list[Figure] = []
    with open_store(urls[0]) as old, open_store(urls[1]) as new:
        of = {"stories": [long[0], short[0]], "signals": [long[1], short[1]]}
        for one in (old, new):
            dev = Context(one).acting("dev-0")
            for n in range(PENDING):
                signals.send(dev, "help_needed", {"question": f"Question {n}?"}, to="role:qa")
        taken = pairs(_inbox(old), _inbox(new), rounds=rounds, each=each, warm=warm)
        figures.append(taken.figure("history_inbox", store, TARGET, pending=PENDING, **of))
        claims = pairs(
            through_maf(old, rooms[0]), through_maf(new, rooms[1]), rounds=rounds, each=each, warm=warm
        )  # fmt: skip
        figures.append(claims.figure("history_claim", store, TARGET, **of))
    for room in rooms:
        room.close()
    for url in urls:
        place.drop(url)
    return figures
