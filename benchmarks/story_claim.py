"""A story claimed through the library, against the same rows by the bare driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import floor, history
from benchmarks.common import Figure, Place, Size, Step, pairs
from orchestrator.service import stories
from orchestrator.service.context import Context
from orchestrator.store import Store, open_store

TARGET = 2.0


def through_maf(store: Store, db: floor.Driver) -> Step:
    """Claims by each dev in turn; ``db``, on the same store, makes room untimed."""
    users, turn = Context(store), [0]

    def step() -> Callable[[], object]:
        agent = f"dev-{turn[0] % history.DEVS}"
        turn[0] += 1
        floor.let_go(db, agent)
        return partial(stories.next_story, users.acting(agent))

    return step


def bare(db: floor.Driver) -> Step:
    """The same by the driver alone."""
    turn = [0]

    def step() -> Callable[[], object]:
        n = turn[0] % history.DEVS
        turn[0] += 1
        floor.let_go(db, f"dev-{n}")
        return partial(floor.claim, db, f"dev-{n}", history.DOMAINS[n])

    return step


def measure(place: Place, store: str, size: Size) -> list[Figure]:
    rounds, each, warm = size.of(7, 5, 1), size.of(200, 80, 3), size.of(40, 20, 2)
    urls = [place.store(store) for _ in range(2)]
    for url in urls:
        history.load(url, stories=1000, signals=1000, ready=rounds * each + warm + history.DEVS)
    room, db = floor.driver(urls[0]), floor.driver(urls[1])
    with open_store(urls[0]) as ours:
        taken = pairs(through_maf(ours, room), bare(db), rounds=rounds, each=each, warm=warm)
    room.close()
    db.close()
    return [taken.figure("story_claim", store, TARGET)]
