"""Ids: UUIDv7 (RFC 9562), so that they sort by the time they were made, also within one millisecond of one process."""

from __future__ import annotations

import os
import re
import threading
import time

_lock = threading.Lock()
_last = 0
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")


def new_id() -> str:
    """A fresh 36-character UUIDv7, greater than every earlier one of this process."""
    global _last  # noqa: PLW0603 - the counter that keeps ids of one process in order
    with _lock:
        # 48 bits of milliseconds and 12 of their fraction: one number that only grows.
        stamp = max((time.time_ns() << 12) // 1_000_000, _last + 1)
        _last = stamp
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | int.from_bytes(os.urandom(8)) >> 2
    h = f"{value:032x}"
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def is_id(value: str) -> bool:
    """Whether ``value`` has the form of an id."""
    return bool(_UUID.match(value))
