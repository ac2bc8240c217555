"""Plan files as data that remembers its lines: YAML and JSON behind one reader, bounded and never executing anything.

Both readers feed one ``Builder``; it refuses what no format of plans needs (duplicate keys, keys that are no text,
bottomless nesting, aliases that blow up) and reports all of it, each with its line.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from orchestrator.domain.plan import Place, Problem

MAX_FILE_BYTES = 10 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 500_000  # some 80,000 stories; hostile files of nothing but punctuation stop here
# What aliases may add up to, in characters and nodes: enough for shared defaults, no room for a "billion laughs".
MAX_ALIASED = 1_000_000

Loc = Sequence[str | int]

_PLAIN_KEY = re.compile(r"[\w$-]+\Z")
_JSON_TOKEN = re.compile(r'\s+|"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_CONSTANTS = frozenset({"NaN", "Infinity"})


class Mapped(dict[str, Any]):
    """A mapping that knows its own line and those of its keys."""

    line: int = 1
    lines: dict[str, int]


class Listed(list[Any]):
    """A list that knows its own line and those of its entries."""

    line: int = 1
    lines: list[int]


class BrokenDocument(Exception):
    """The file cannot be read any further; ``problem`` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Document:
    """One file of a plan, read once.

    ``name`` is what problems call it; ``named`` is false for one found in a folder, which need not be part of the plan.
    """

    def __init__(self, path: Path, *, named: bool = True) -> None:
        self.path = path
        self.named = named
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        self.name = name if name.isprintable() else ascii(name)
        self._text: str | None = None

    @property
    def is_json(self) -> bool:
        """By its name."""
        return self.path.suffix.lower() == ".json"

    def problem(self, line: int | None, field: str, message: str) -> Problem:
        """A problem in this file."""
        return Problem(self.name, line, field, message)

    def place(self, root: Any, loc: Loc) -> Place:
        """Where ``loc`` of the document ``root`` stands, as line and dotted field."""
        return Place(self.name, line_of(root, loc), dotted(loc))

    def text(self) -> str:
        """The file's text. BrokenDocument: it cannot be read, is too big, empty, binary or not UTF-8."""
        if self._text is None:
            self._text = self._read()
        return self._text

    def _read(self) -> str:
        try:
            if not self.path.is_file():  # a pipe or device may never end
                raise self._broken(None, "is not a regular file")
            with self.path.open("rb") as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise self._broken(None, f"cannot be read: {error.strerror or error}") from None
        if len(data) > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES // 1024 // 1024
            raise self._broken(None, f"is larger than {limit} MB; split the plan into several files")
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise self._broken(1, "is UTF-16; save it as UTF-8")
        if b"\x00" in data:
            line = data.count(b"\n", 0, data.index(b"\x00")) + 1
            raise self._broken(line, "holds NUL bytes: it is a binary file, not a text in UTF-8")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise self._broken(line, f"is not UTF-8 (byte 0x{data[error.start]:02x}); save it as UTF-8") from None
        if not text.strip():
            raise self._broken(None, "is empty")
        return text

    def tree(self) -> tuple[Any, list[Problem]]:
        """The document as ``Mapped``, ``Listed`` and scalars, and what is wrong with its form; or BrokenDocument."""
        text = self.text()
        builder = Builder(self)
        if self.is_json:
            _read_json(self, text, builder)
        else:
            from orchestrator.plans.yaml_reader import read_yaml

            read_yaml(self, text, builder)
        return builder.root, builder.problems

    def _broken(self, line: int | None, message: str) -> BrokenDocument:
        return BrokenDocument(self.problem(line, "", f"the file {message}"))


class Builder:
    """Builds the tree out of what a reader meets, in order: ``begin``, ``scalar``, ``alias``, ``end``."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.root: Any = None
        self._stack: list[Mapped | Listed] = []
        self._keys: list[str | None] = []  # per open mapping, the key that waits for its value
        self._aliased = 0
        self._nodes = 0

    def begin(self, container: Mapped | Listed, line: int) -> None:
        """Open a mapping or list."""
        container.line = line
        if isinstance(container, Mapped):
            container.lines = {}
        else:
            container.lines = []
        if self._expects_key():
            raise BrokenDocument(
                self.document.problem(line, self._field(), "a key must be a text, not a list or mapping")
            )
        self._put(container, line)
        self._stack.append(container)
        self._keys.append(None)
        if len(self._stack) > MAX_DEPTH:
            raise BrokenDocument(self.document.problem(line, "", f"nested more than {MAX_DEPTH} levels deep"))

    def end(self) -> None:
        """Close the innermost mapping or list."""
        self._stack.pop()
        self._keys.pop()
        if self._keys:
            self._keys[-1] = None

    def scalar(self, value: Any, line: int) -> None:
        """A key or a value."""
        if not self._expects_key():
            self._put(value, line)
            if self._keys:
                self._keys[-1] = None
            return
        mapping = cast("Mapped", self._stack[-1])
        key = value if isinstance(value, str) else ascii(value)[:60]
        self._keys[-1] = key
        if key is not value:
            self.add(line, f"the key {key} must be a text; put it in quotes")
        if key in mapping:
            self.add(line, f"the key is used twice, first on line {mapping.lines[key]}")
        elif key == "<<" and not self.document.is_json:
            self.add(line, "merge keys (<<) are not supported; write the fields out")
        mapping.lines.setdefault(key, line)

    def refuse(self, message: str, line: int) -> None:
        """A value that cannot be taken: noted, and null stands in its place."""
        self.add(line, message)
        self.scalar(None, line)

    def alias(self, value: Any, line: int) -> None:
        """A value that stands elsewhere already."""
        self._aliased += _weight(value, MAX_ALIASED)
        if self._aliased > MAX_ALIASED:
            message = f"aliases repeat more than {MAX_ALIASED} characters; write the plan out"
            raise BrokenDocument(self.document.problem(line, self._field(), message))
        self.scalar(value, line)

    def add(self, line: int | None, message: str) -> None:
        """Note a problem at the current field."""
        self.problems.append(self.document.problem(line, self._field(), message))

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1], Mapped) and self._keys[-1] is None

    def _put(self, value: Any, line: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            message = f"holds more than {MAX_NODES} values; split the plan into several files"
            raise BrokenDocument(self.document.problem(line, "", message))
        if not self._stack:
            self.root = value
            return
        container = self._stack[-1]
        if isinstance(container, Mapped):
            container.setdefault(cast("str", self._keys[-1]), value)
        else:
            container.append(value)
            container.lines.append(line)

    def _field(self) -> str:
        loc: list[str | int] = []
        for container, key in zip(self._stack, self._keys, strict=True):
            if isinstance(container, Listed):
                # What is open inside is appended already; what is about to come is not.
                loc.append(len(container) if container is self._stack[-1] else len(container) - 1)
            elif key is not None:
                loc.append(key)
        return dotted(loc)


def dotted(loc: Loc) -> str:
    """``("stories", 3, "domain")`` as ``stories[3].domain``; what is not plainly printable is quoted."""
    field = ""
    for part in loc:
        if isinstance(part, int):
            field += f"[{part}]"
        else:
            shown = part if _PLAIN_KEY.match(part) and len(part) <= 60 else ascii(part[:60])
            field += f".{shown}" if field else shown
    return field


def line_of(root: Any, loc: Loc) -> int | None:
    """The line of ``loc``, or of the nearest thing around it that is there."""
    line = root.line if isinstance(root, Mapped | Listed) else 1
    here = root
    for part in loc:
        if isinstance(here, Mapped) and isinstance(part, str) and part in here.lines:
            line, here = here.lines[part], here.get(part)
        elif isinstance(here, Listed) and isinstance(part, int) and part < len(here):
            line, here = here.lines[part], here[part]
        else:
            break
    return line


def plain(value: Any) -> Any:
    """The same data as ordinary dicts and lists."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def _weight(value: Any, limit: int) -> int:
    """Nodes and characters of ``value``, counted until ``limit`` is passed."""
    total, stack = 0, [value]
    while stack and total <= limit:
        one = stack.pop()
        total += 1
        if isinstance(one, str):
            total += len(one)
        elif isinstance(one, dict):
            total += sum(map(len, one))
            stack.extend(one.values())
        elif isinstance(one, list):
            stack.extend(one)
    return total


def _read_json(document: Document, text: str, builder: Builder) -> None:
    try:
        # The library judges the syntax; numbers are left to the walk below, which knows their lines.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        raise BrokenDocument(document.problem(error.lineno, "", f"not valid JSON: {error.msg}")) from None
    except RecursionError:
        raise BrokenDocument(document.problem(None, "", f"nested more than {MAX_DEPTH} levels deep")) from None
    line = 1
    for match in _JSON_TOKEN.finditer(text):
        token = match.group()
        first = token[0]
        if first.isspace():
            line += token.count("\n")
        elif first == "{":
            builder.begin(Mapped(), line)
        elif first == "[":
            builder.begin(Listed(), line)
        elif first in "}]":
            builder.end()
        elif first not in ",:":
            try:
                builder.scalar(json.loads(token, parse_constant=_refuse_constant), line)
            except ValueError as error:
                builder.refuse(str(error) if token.strip("-") in _CONSTANTS else "the number is too long", line)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
