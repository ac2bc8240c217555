"""What people read: hostile text made harmless, tables, the terminal's width, colour and character set."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_ASCII = str.maketrans({"…": "...", "→": "->", "·": "-", "✓": "+", "✗": "x"})
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_STATUS = {
    "completed": "green", "processed": "green", "pass": "green", "failed": "red", "fail": "red", "blocked": "red",
    "terminated": "dim", "expired": "dim", "backlog": "dim", "planning": "dim", "active": "cyan", "working": "cyan",
    "in_progress": "cyan", "qa_review": "yellow", "pm_review": "yellow", "paused": "yellow", "pending": "yellow",
}  # fmt: skip


def clean(value: Any, *, lines: bool = False) -> str:
    """Text from the store or from outside, safe to print: no control character, escape sequence or direction mark.

    ``lines`` keeps line breaks and tabs.
    """
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c in "\n\t") else _shown(c, lines) for c in text)


def _shown(char: str, lines: bool) -> str:
    if not lines and char in "\n\t":
        return " "
    # A zero-width joiner holds an emoji together and moves nothing else; other formats are shown as what they are.
    if char == "\u200d":
        return char
    number = ord(char)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def width(text: str) -> int:
    """How many columns a terminal gives to ``text``."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf")
        else 2 if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )  # fmt: skip


def cut(text: str, columns: int) -> str:
    """``text`` in at most ``columns`` columns; what is left out shows as an ellipsis."""
    if width(text) <= columns:
        return text
    kept, used = [], 0
    for char in text:
        used += width(char)
        if used > columns - 1:
            break
        kept.append(char)
    return "".join(kept) + "…"


class Screen:
    """One stream and what it can show."""

    def __init__(self, stream: TextIO, *, color: bool | None = None) -> None:
        self.stream = stream
        self.unicode = (getattr(stream, "encoding", None) or "ascii").lower().replace("_", "-").startswith("utf")
        self.tty = bool(getattr(stream, "isatty", lambda: False)())
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self.color = (self.tty and not plain) if color is None else color

    @property
    def columns(self) -> int | None:
        """The terminal's width; None where nothing has to be cut (a pipe, a file)."""
        if self.tty or os.environ.get("COLUMNS", "").isdigit():
            return max(shutil.get_terminal_size((100, 24)).columns, 40)
        return None

    def style(self, text: str, style: str) -> str:
        """``text`` in a colour or weight, where the stream shows them."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.color and style and text else text

    def status(self, value: Any) -> str:
        """A status in its colour."""
        text = clean(value)
        return self.style(text, _STATUS.get(text, ""))

    def line(self, text: str = "") -> None:
        """Write one line (of ours: what is from outside was cleaned)."""
        self.write(text + "\n")

    def write(self, text: str) -> None:
        """Write text in the stream's character set."""
        self.stream.write(self.shown(text))

    def shown(self, text: str) -> str:
        """``text`` in the stream's character set; what it lacks becomes an escape, never an error."""
        encoding = getattr(self.stream, "encoding", None) or "ascii"
        if not self.unicode:
            text = text.translate(_ASCII)
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def table(self, heads: Sequence[str], rows: Iterable[Sequence[Any]], *, flexible: int = -1) -> None:
        """Aligned columns under heads; on a narrow terminal the ``flexible`` column is cut. Numbers go to the right.

        Cells are cleaned here; a cell under STATUS is coloured.
        """
        body = [[clean(cell) for cell in row] for row in rows]
        numbers = [all(row[i].isdigit() for row in body if row[i]) and bool(body) for i in range(len(heads))]
        widths = [max(width(row[i]) for row in [list(heads), *body]) for i in range(len(heads))]
        flexible %= len(heads)
        if self.columns is not None:
            over = sum(widths) + 2 * (len(heads) - 1) - self.columns
            if over > 0:
                widths[flexible] = max(widths[flexible] - over, 8)
        self._row(heads, heads, widths, numbers, "bold")
        for row in body:
            self._row(heads, row, widths, numbers, "")

    def _row(
        self, heads: Sequence[str], cells: Sequence[str], widths: list[int], numbers: list[bool], style: str
    ) -> None:
        shown = []
        for head, cell, room, number in zip(heads, cells, widths, numbers, strict=True):
            text = cut(cell, room)
            gap = " " * (room - width(text))
            styled = self.style(text, style) if style else self.status(text) if head == "STATUS" else text
            shown.append(gap + styled if number else styled + gap)
        self.line("  ".join(shown).rstrip())

    def facts(self, pairs: Iterable[tuple[str, Any]]) -> None:
        """Names and values, one pair a line; those without a value are left out."""
        given = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
        room = max((width(name) for name, _ in given), default=0)
        for name, value in given:
            text = clean(value, lines=True).replace("\n", "\n" + " " * (room + 2))
            shown = self.status(text) if name == "status" else text
            self.line(f"{self.style(name, 'dim')}{' ' * (room - width(name))}  {shown}")

    def bullets(self, title: str, items: Iterable[str]) -> None:
        """A titled list; nothing where it is empty. Further lines of an item stand under its first."""
        shown = [clean(item, lines=True).strip().replace("\n", "\n    ") for item in items]
        if shown:
            self.line()
            self.line(self.style(title, "bold"))
            for item in shown:
                self.line(f"  · {item}")


def short(moment: str | None) -> str:
    """A moment as a person reads it, to the second, in UTC."""
    return moment[:19].replace("T", " ") if moment else ""


def make_streams_safe() -> None:
    """No output ever fails for a character that the terminal or file cannot take."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
