"""The formats of plans. A new one is a module like ``story_json`` and one line in ``FORMATS``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.plan import Plan
from orchestrator.domain.planning import invalid_plan, problems
from orchestrator.plans.documents import BrokenDocument, Document
from orchestrator.plans.sources import Importer, Sources


@dataclass(frozen=True, slots=True)
class Format:
    """A format that can be imported. ``sign`` is what detection looks for."""

    name: str
    title: str
    sign: str
    module: str

    def importer(self) -> Importer:
        """Its module, loaded when it is needed."""
        return cast("Importer", import_module(f"orchestrator.plans.{self.module}"))


FORMATS = {
    one.name: one
    for one in (
        Format(
            "native", "maf's own plan, YAML or JSON", "'maf: 1' at the top of a .yaml, .yml or .json file", "native"
        ),
        Format("story-json", "story JSON of schema 4.x, a file a story", "'story_id' in .json files", "story_json"),
    )
}


def detect(paths: Sequence[Path]) -> str:
    """The name of the format of ``paths``. Raises NotFound for a missing path, InvalidInput where it cannot be told."""
    return _detect(Sources(paths))


def load(
    paths: Sequence[Path],
    format: str | None = None,  # noqa: A002 - the option's own name
    *,
    known_waves: Collection[str] = (),
    known_stories: Collection[str] = (),
) -> Plan:
    """The plan in ``paths`` (files, or folders of files), checked: one that is returned can be imported as it stands.

    ``format`` is a key of ``FORMATS``, None to detect it. ``known_waves`` and ``known_stories`` are codes that the plan
    may refer to beside its own. Raises NotFound (a path), InvalidInput (the format), InvalidPlan with every problem.
    """
    if format is not None and format not in FORMATS:
        raise InvalidInput(f"unknown plan format {format[:60]!r}", hint=f"Known are {', '.join(FORMATS)}.")
    sources = Sources(paths)
    reading = FORMATS[format or _detect(sources)].importer().read(sources)
    found = list(reading.problems)
    if reading.plan.waves or reading.plan.stories or not found:
        found += problems(
            reading.plan,
            known_waves=reading.broken_waves.union(known_waves),
            known_stories=reading.broken_stories.union(known_stories),
        )
    if found:
        order = {name: index for index, name in enumerate(dict.fromkeys(one.file for one in found))}
        raise invalid_plan(sorted(found, key=lambda one: (order[one.file], one.line or 0)))
    return reading.plan


def dump(plan: Plan) -> str:
    """``plan`` as a file of maf's own format."""
    from orchestrator.plans.native_dump import dump as dump_native

    return dump_native(plan)


def _detect(sources: Sources) -> str:
    broken: list[BrokenDocument] = []
    fitting = [one.name for one in FORMATS.values() if _fits(one.importer(), sources, broken)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise InvalidInput(
            f"the files are of several formats: {', '.join(fitting)}", hint="Import them one by one, or say --format."
        )
    if broken:
        raise invalid_plan([broken[0].problem])
    signs = "; ".join(f"{one.sign} ({one.name})" for one in FORMATS.values())
    names = ", ".join(Document(path).name for path in sources.paths[:5])
    raise InvalidInput(
        f"cannot tell the format of {names}. Looked for: {signs}",
        hint=f"Say it with --format {'|'.join(FORMATS)}.",
    )


def _fits(importer: Importer, sources: Sources, broken: list[BrokenDocument]) -> bool:
    for document in sources.documents(importer.SUFFIXES):
        try:
            if document.path.suffix.lower() in importer.SUFFIXES and importer.looks_right(document):
                return True
        except BrokenDocument as error:
            broken.append(error)
    return False
