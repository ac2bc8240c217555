"""A signal sent through the library, against the same rows by the bare driver."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import floor, history
from benchmarks.common import Figure, Place, Size, pairs
from orchestrator.service import signals
from orchestrator.service.context import Context
from orchestrator.store import open_store

TARGET = 2.0
SENDERS = 64
"""In turn, so that none comes near the limit of signals a minute, which stays on."""
QUESTION = "Which of the two layouts does the importer expect: one file a story, or one for the whole wave?"


def measure(place: Place, store: str, size: Size) -> list[Figure]:
    rounds, each = size.of(7, 5, 1), size.of(300, 100, 3)
    urls = [place.store(store) for _ in range(2)]
    for url in urls:
        history.load(url, stories=100, signals=1000, senders=SENDERS)
    db = floor.driver(urls[1])
    with open_store(urls[0]) as ours:
        users = Context(ours)
        turn = [0, 0]

        def sender(side: int) -> str:
            turn[side] += 1
            return f"sender-{turn[side] % SENDERS}"

        def one() -> Callable[[], object]:
            return partial(signals.send, users.acting(sender(0)), "help_needed", {"question": QUESTION})

        def bare() -> Callable[[], object]:
            return partial(floor.send, db, sender(1), QUESTION)

        taken = pairs(one, bare, rounds=rounds, each=each, warm=size.of(50, 20, 2))
    db.close()
    return [taken.figure("signal_send", store, TARGET)]
