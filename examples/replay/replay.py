"""Rebuilds a package's history with maf: real releases, made again by scripted agents that work in parallel.

Each release becomes a wave, its groups of changed files become stories, the package's own test suite is the check of
every gate. At the end the target branch must hold the last release, byte for byte. See README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import groups
import plan
import project
from releases import Release, ReplayError, fetch
from suite import CHECKS, PINS, Suite, prepare

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".build" / "replay"

# Small, pure Python, with their tests in the source distribution. Tried on Python 3.11; their authors name newer too.
DEFAULTS = {
    "boltons": ("26.0.0", "26.1.0", "26.2.0"),
    "cachetools": ("7.3.0", "7.3.1", "7.3.2", "8.0.0"),
}
MIN_STORIES = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known before the first agent starts. ``collected`` is each release's own number of tests."""

    package: str
    releases: list[Release]
    collected: list[int]
    waves: list[plan.Wave]
    suite: Suite


def main() -> int:
    """Replay the packages asked for. Exit code 0 where every check held, 1 where one did not, 2 for wrong usage."""
    asked = arguments()
    failed = []
    for package, versions in asked.packages.items():
        print(f"{package} {' -> '.join(versions)}", flush=True)
        try:
            replay(package, versions, asked)
        except ReplayError as error:
            failed.append(package)
            print(f"replay: {package}: {error}", file=sys.stderr, flush=True)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line; ``packages`` maps each package asked for to its releases."""
    parser = argparse.ArgumentParser(description="Rebuild a package's releases with maf and scripted agents.")
    parser.add_argument("--package", action="append", help="a package to replay (may be repeated); default: both")
    parser.add_argument("--releases", help="its releases, oldest first, with commas; needed for any other package")
    parser.add_argument("--needs", action="append", default=[], help="a further requirement of the package's tests")
    parser.add_argument("--store", help="the store's URL, {package} in it stands for the package; default: SQLite")
    parser.add_argument("--agents", type=int, default=4, help="how many agents work at once (default 4)")
    parser.add_argument("--simulate", action="store_true", help="without maf: the same stories one after another")
    parser.add_argument("--keep", action="store_true", help="leave the rebuilt repository to look at")
    asked = parser.parse_args()
    names = asked.package or list(DEFAULTS)
    if asked.releases and len(names) != 1:
        parser.error("--releases needs exactly one --package")
    if asked.store and len(names) > 1 and "{package}" not in asked.store:
        parser.error("two packages need two stores: put {package} into the URL, or choose one --package")
    unknown = [name for name in names if name not in DEFAULTS and not asked.releases]
    if unknown:
        parser.error(f"say which --releases of {unknown[0]} to replay")
    asked.packages = {
        name: tuple(asked.releases.split(",")) if asked.releases else DEFAULTS[name] for name in dict.fromkeys(names)
    }
    if any(len(versions) < 2 for versions in asked.packages.values()):
        parser.error("a replay needs at least two releases")
    return asked


def replay(package: str, versions: Sequence[str], asked: argparse.Namespace) -> None:
    """One package from its first release to its last. Raises ReplayError where a check does not hold."""
    started = time.monotonic()
    ready = prepared(package, versions, asked.needs)
    stories = [story for wave in ready.waves for story in wave.stories]
    if len(stories) < MIN_STORIES:
        raise ReplayError(f"these releases make {len(stories)} stories; a replay takes at least {MIN_STORIES}.")
    print(f"  {len(ready.waves)} waves, {len(stories)} stories, prepared in {time.monotonic() - started:.0f} s")

    running = time.monotonic()
    made = project.Project(WORK / package / "run", ready.suite, ready.releases[0])
    made.create()
    if asked.simulate:
        made.simulate(ready.waves)
    else:
        made.run(ready.waves, asked.store.format(package=package) if asked.store else None, asked.agents)
    took = time.monotonic() - running

    at_end = made.verify(ready.waves, ready.collected)
    print(f"  {'wave':<22}{'stories':>8}{'files':>7}{'tests':>8}{'its own':>9}  tree")
    for wave, own, tests in zip(ready.waves, ready.collected[1:], at_end, strict=True):
        files = sum(len(story.paths) for story in wave.stories)
        print(f"  {wave.code:<22}{len(wave.stories):>8}{files:>7}{tests:>8}{own:>9}  {wave.release.digest[:12]}")
    how = "one after another, without maf" if asked.simulate else f"{asked.agents} agents"
    print(f"  the target's tree is that of {ready.releases[-1]}, byte for byte ({how}: {took:.0f} s)", flush=True)
    if asked.keep:
        print(f"  left to look at: {made.repository}")
    else:
        made.remove()


def prepared(package: str, versions: Sequence[str], needs: Sequence[str]) -> Prepared:
    """Fetch the releases, form the groups, or take both from what an earlier replay left."""
    home = WORK / package
    releases = fetch(package, versions, WORK / "cache", home / "releases")
    suite = prepare(home / "venv", needs)
    known = _Known(home / "known", [sys.version, str(suite.python), *needs])

    def count(release: Release) -> int:
        told = known.of(release)
        if "collected" not in told:
            outcome = groups.try_tree(release, release, (), suite, home / "scratch")
            if not outcome.passed:
                raise ReplayError(f"the suite of {release} does not pass as shipped:\n{outcome.output[-2000:]}")
            print(f"  {release}: {outcome.collected} tests in {outcome.seconds:.1f} s", flush=True)
            told = known.keep({"collected": outcome.collected}, release)
        return int(told["collected"])

    with ThreadPoolExecutor(groups.WORKERS) as pool:
        collected = list(pool.map(count, releases))
    grouped = []
    for old, new in itertools.pairwise(releases):
        told = known.of(old, new)
        if "groups" not in told:
            formed, runs = groups.between(old, new, suite, home / "scratch")
            print(f"  {new}: {len(formed)} groups of changes, formed in {runs} runs of the suite", flush=True)
            told = known.keep({"groups": [dataclasses.asdict(group) for group in formed]}, old, new)
        grouped.append(
            [
                groups.Group(one["name"], one["domain"], tuple(one["paths"]), tuple(one["after"]))
                for one in told["groups"]
            ]
        )
    return Prepared(package, releases, collected, plan.waves(releases, grouped), suite)


class _Known:
    """What earlier runs of the suite told of these very trees, in the same circumstances."""

    def __init__(self, folder: Path, circumstances: Sequence[str]) -> None:
        sources = [path.read_text("utf-8") for path in (PINS, CHECKS, Path(groups.__file__))]
        self._folder, self._circumstances = folder, [*circumstances, *sources]

    def of(self, *releases: Release) -> dict[str, Any]:
        """What is known of these releases; empty where nothing is."""
        path = self._path(releases)
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}

    def keep(self, value: dict[str, Any], *releases: Release) -> dict[str, Any]:
        """Remember ``value`` for the next replay, and hand it back as it will be read then."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(releases).write_text(json.dumps(value, indent=1), "utf-8")
        return self.of(*releases)

    def _path(self, releases: Sequence[Release]) -> Path:
        key = "\n".join([*self._circumstances, *(release.digest for release in releases)])
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


if __name__ == "__main__":
    sys.exit(main())
