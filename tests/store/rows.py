"""Small writes for the tests of the store."""

from __future__ import annotations

import multiprocessing
from typing import Any

from orchestrator.domain import ids
from orchestrator.store import Row, Store, Tx

FORK = multiprocessing.get_context("fork")


def insert_wave(tx: Tx, code: str, **columns: Any) -> Row:
    return tx.write(
        "wave.insert",
        **{
            "id": ids.new_id(), "wave_code": code, "name": code, "description": None, "status": "planning",
            "priority": 1, "start_mode": "auto", "now": tx.now, **columns,
        },
    )[0]  # fmt: skip


def add_wave(store: Store, code: str, **columns: Any) -> Row:
    def work(tx: Tx) -> Row:
        tx.activity("user", "wave.add", None, wave=code)
        return insert_wave(tx, code, **columns)

    return store.write(work)


def wave_codes(store: Store) -> list[str]:
    with store.read() as reader:
        return sorted(w["wave_code"] for w in reader.all("wave.list"))


def log(store: Store) -> list[Row]:
    with store.read() as reader:
        return reader.all("activity.page", after=0, size=10_000)


def answers_of(target: Any, *arguments: tuple[Any, ...], timeout: float = 60.0) -> list[Any]:
    """Run ``target(*one, start, answers)`` in a process for each tuple, released together; what they answer."""
    start, answers = FORK.Barrier(len(arguments)), FORK.Queue()
    processes = [FORK.Process(target=_guarded, args=(target, one, start, answers)) for one in arguments]
    for process in processes:
        process.start()
    try:
        found = [answers.get(timeout=timeout) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout)
            if process.is_alive():
                process.kill()
    return found


def _guarded(target: Any, one: tuple[Any, ...], start: Any, answers: Any) -> None:
    try:
        answers.put(target(*one, start))
    except BaseException as error:  # noqa: BLE001 - the parent judges it
        answers.put(repr(error))
