"""Moments: UTC text of fixed width, ``YYYY-MM-DDTHH:MM:SS.ffffffZ``, so that they sort as text."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from orchestrator.domain.errors import InvalidInput

_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")
_AGO = re.compile(r"(\d+)\s*(s|m|h|d)(?: ago)?\Z")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def system_now() -> str:
    """This machine's clock."""
    return from_datetime(datetime.fromtimestamp(time.time(), UTC))


def from_datetime(value: datetime) -> str:
    """An aware datetime as a moment."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def to_datetime(moment: str) -> datetime:
    """A moment as an aware datetime."""
    return datetime.fromisoformat(moment)


def after(moment: str, seconds: float) -> str:
    """``moment`` moved by ``seconds``."""
    return from_datetime(to_datetime(moment) + timedelta(seconds=seconds))


def between(earlier: str, later: str) -> float:
    """Seconds from ``earlier`` to ``later``."""
    return (to_datetime(later) - to_datetime(earlier)).total_seconds()


def is_moment(value: str) -> bool:
    """Whether ``value`` has the form of a moment."""
    return bool(_FORM.match(value))


def parse(value: str, *, now: str) -> str:
    """What a person types: ISO 8601 (a time without zone is UTC), or an age such as ``5m`` or ``2h ago``."""
    if found := _AGO.match(value.strip()):
        return from_datetime(to_datetime(now) - timedelta(**{_UNITS[found[2]]: int(found[1])}))
    try:
        when = datetime.fromisoformat(value.strip())
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{value!r} is not a time", hint="Write it like 2026-11-22T10:30, 2026-11-22T10:30:05Z, or 15m."
        ) from None
    return from_datetime(when if when.tzinfo else when.replace(tzinfo=UTC))
