"""What codes, ids and texts may look like. One home, used by every write."""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator.domain.errors import InvalidInput

MAX_PAYLOAD_BYTES = 64 * 1024
MAX_JSON_DEPTH = 100
"""The databases have limits of their own, each another."""
RESERVED_AGENTS = frozenset({"maf", "user"})

# A code becomes a branch name, a folder and an argument: so no slash, no leading dash, nothing a shell or git reads.
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}\Z")
_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}\Z")
_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}\Z")
# A NUL as json.dumps writes it; an escaped backslash before "u0000" is just text.
_ENCODED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(r"[\[\]{}]")
# Cc but tab and newline; bidirectional controls that make a text read as what it is not.
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069\u200e\u200f]")


def code(value: str, what: str) -> str:
    """A story or wave code: 1 to 50 of A-Z a-z 0-9 . _ -, safe as a branch and folder name."""
    if not _CODE.match(value) or ".." in value or value.endswith((".", ".lock")):
        raise InvalidInput(
            f"{what} {value[:60]!r} is not a usable code",
            hint="Use 1 to 50 letters, digits, '.', '_' or '-', starting with a letter or digit, "
            "without '..' and not ending in '.' or '.lock'.",
        )
    return value


def agent_id(value: str) -> str:
    """An agent's id: 1 to 100 of A-Z a-z 0-9 . _ @ -; never a reserved one."""
    if not _AGENT.match(value):
        raise InvalidInput(
            f"{value[:60]!r} is not a usable agent id",
            hint="Use 1 to 100 letters, digits, '.', '_', '@' or '-', starting with a letter or digit.",
        )
    return value


def domain(value: str) -> str:
    """A domain's name: 1 to 50 of A-Z a-z 0-9 . _ -."""
    if not _DOMAIN.match(value):
        raise InvalidInput(
            f"{value[:60]!r} is not a usable domain name",
            hint="Use 1 to 50 letters, digits, '.', '_' or '-', starting with a letter or digit.",
        )
    return value


def text(
    value: str, what: str, *, limit: int = MAX_PAYLOAD_BYTES, single_line: bool = False, required: bool = False
) -> str:
    """A text that both stores can hold: no NUL, no lone surrogate, at most ``limit`` characters.

    ``required`` refuses a blank one. ``single_line`` does too, and also line breaks, other control characters and
    bidirectional controls: such a text is printed in tables, where they would pose as something else.
    """
    if not value.strip() and (single_line or required):
        raise InvalidInput(f"{what} is empty", hint=f"Give {what} some text.")
    if "\x00" in value:
        raise InvalidInput(f"{what} contains a NUL character", hint="Remove the NUL character.")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput(
            f"{what} is not valid Unicode (a lone surrogate)", hint="Send the text as valid UTF-8."
        ) from None
    if len(value) > limit:
        raise InvalidInput(f"{what} is {len(value)} characters long; at most {limit} are allowed", hint="Shorten it.")
    if single_line and (_BIDI.search(value) or any(ord(c) < 32 or ord(c) == 127 for c in value)):
        raise InvalidInput(
            f"{what} contains a line break, control character or direction mark", hint="Write it on one plain line."
        )
    return value


def json_text(value: Any, what: str, *, limit: int = MAX_PAYLOAD_BYTES) -> str:
    """``value`` as JSON text that both stores accept, at most ``limit`` bytes of UTF-8."""
    try:
        encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        size = len(encoded.encode("utf-8"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is not storable JSON: {error}", hint="Send plain JSON in valid UTF-8.") from None
    if size > limit:
        raise InvalidInput(
            f"{what} is {size} bytes; at most {limit} are allowed",
            hint="Put large content in a file and name the file.",
        )
    if _depth(encoded) > MAX_JSON_DEPTH:
        raise InvalidInput(f"{what} is nested more than {MAX_JSON_DEPTH} deep", hint="Send a flatter structure.")
    if _ENCODED_NUL.search(encoded):
        raise InvalidInput(f"{what} contains a NUL character", hint="Remove the NUL character.")
    return encoded


def _depth(encoded: str) -> int:
    """How deep JSON text is nested."""
    if encoded.count("[") + encoded.count("{") <= MAX_JSON_DEPTH:
        return 0
    deepest = depth = 0
    for mark in _BRACKETS.findall(_STRING.sub("", encoded)):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest
