"""What an importer is given, what it gives back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.domain.errors import InvalidInput, NotFound
from orchestrator.domain.plan import Plan, Problem
from orchestrator.plans.documents import Document

MAX_FILES = 10_000
_URGENCY = re.compile(r"P([0-9]{1,4})\Z")


@dataclass(frozen=True, slots=True)
class Reading:
    """A plan and the errors in its form.

    The codes are those of waves and stories that could not be read themselves: a reference to one is no further error.
    """

    plan: Plan
    problems: tuple[Problem, ...] = ()
    broken_waves: frozenset[str] = frozenset()
    broken_stories: frozenset[str] = frozenset()


class Sources:
    """The paths of an import, as given, and the documents in them (a folder's own, not its sub-folders')."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises NotFound where a path does not exist, InvalidInput where there is none."""
        if not paths:
            raise InvalidInput("no path was given", hint="Name a plan file or a folder of them.")
        self.paths = tuple(paths)
        self._documents: list[Document] = []
        seen: set[Path] = set()
        for path in self.paths:
            try:
                inside = sorted(path.iterdir()) if path.is_dir() else None
                exists = path.exists()
            except (OSError, ValueError) as error:  # ValueError: a NUL in the path
                raise InvalidInput(f"{str(path)[:200]!r} cannot be read: {error}") from None
            if not exists:
                shown = Document(path).name
                raise NotFound(f"there is no file or folder {shown}", hint="Check the path; it is relative to here.")
            for one in [path] if inside is None else inside:
                if inside is not None and (one.name.startswith(".") or one.is_dir()):
                    continue
                if one.resolve() not in seen:
                    seen.add(one.resolve())
                    self._documents.append(Document(one, named=inside is None))
        if len(seen) > MAX_FILES:
            raise InvalidInput(f"{len(seen)} files are too many for one import; at most {MAX_FILES} are read")

    def documents(self, suffixes: Sequence[str]) -> list[Document]:
        """The named files, and of the folders' those with one of ``suffixes``."""
        return [one for one in self._documents if one.named or one.path.suffix.lower() in suffixes]


def priority_of(text: str) -> int | str:
    """P0 is priority 1, P1 is 2 and so on; any other text comes back as it is."""
    match = _URGENCY.match(text)
    return int(match[1]) + 1 if match else text


class Importer(Protocol):
    """What the module of a format must have."""

    SUFFIXES: tuple[str, ...]

    def looks_right(self, document: Document) -> bool:
        """Whether this file seems to be of the format, even if it is broken. May raise BrokenDocument."""

    def read(self, sources: Sources) -> Reading:
        """The plan in the sources, with every error in its form."""
