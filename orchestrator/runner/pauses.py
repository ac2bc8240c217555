"""What is put off after trouble: each thing with a pause of its own, which doubles every time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

Key = tuple[str, ...]


class Pauses:
    """Times on the monotonic clock, in memory only: a runner that is started again tries at once."""

    def __init__(self, first: float, longest: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._first = first
        self._longest = longest
        self._clock = clock
        self._until: dict[Key, float] = {}
        self.times: Counter[Key] = Counter()

    def put_off(self, *key: str) -> None:
        """Not again before a pause has passed, twice as long as the last."""
        pause = min(self._longest, self._first * 2.0 ** min(self.times[key], 64))
        self.times[key] += 1
        self._until[key] = self._clock() + pause

    def forget(self, *key: str) -> None:
        """It went well: at once next time, and the next pause is the first again."""
        self._until.pop(key, None)
        self.times.pop(key, None)

    def expire(self) -> None:
        """Drop the pauses that are over; the look that follows finds what they were for."""
        now = self._clock()
        self._until = {key: until for key, until in self._until.items() if until > now}

    def due(self, *key: str) -> bool:
        """Whether nothing puts it off any more."""
        return self._until.get(key, 0.0) <= self._clock()

    def pending(self) -> float | None:
        """The moment of the earliest pause that was not over at the last :meth:`expire`, or None."""
        return min(self._until.values(), default=None)
