"""What changed between two releases, as groups of files that can be made, checked and merged on their own.

Files are first put together by name (``_keys.py`` with ``keys.pyi`` and ``test_keys.py``). Then the suite decides: a
group that does not pass on top of the old release alone depends on others, found by taking away whatever is not
needed; groups that need each other are one; one that does not pass on top of what it depends on is joined with its
neighbour. So each story can be merged as soon as those it waits for are, in any order of the rest.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from releases import Release, ReplayError, differing, put

if TYPE_CHECKING:
    from suite import Outcome, Suite

Passes = Callable[[frozenset[int]], bool]

MAX_GROUPS = 6
WORKERS = min(5, (os.cpu_count() or 1) + 1)  # a suite also sleeps
_DOCUMENTS = {".md", ".rst", ".txt"}
_DOCUMENT_FOLDERS = {"doc", "docs"}
_BUILD_SCRIPTS = {"setup.py", "noxfile.py"}


@dataclass(frozen=True, slots=True)
class Group:
    """Files that change together. ``after`` names the groups without which the suite does not pass."""

    name: str
    domain: str
    paths: tuple[str, ...]
    after: tuple[str, ...] = ()


def candidates(paths: Sequence[str], limit: int = MAX_GROUPS) -> list[Group]:
    """Changed paths grouped by what they are called; at most ``limit`` groups, the smallest folded into neighbours."""
    modules = {_stem(path) for path in paths if path.endswith(".py") and not _is_test(path)}
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted(paths):
        grouped[_key(path, modules)].append(path)
    found = [Group(name, domain, tuple(members)) for (domain, name), members in sorted(grouped.items())]
    while len(found) > max(limit, 2):
        sizes = [
            (len(left.paths) + len(right.paths), at)
            for at, (left, right) in enumerate(itertools.pairwise(found))
            if left.domain == right.domain
        ]
        at = min(sizes)[1] if sizes else 0
        found[at : at + 2] = [_joined(found[at : at + 2])]
    return found


def form(changes: Sequence[Group], passes: Passes, *, workers: int = 2) -> list[Group]:
    """``changes`` with what each depends on, joined where they cannot stand apart; in an order that respects that.

    ``passes`` tells whether the suite passes on the old release with the given changes (by index) made to it.
    Raises ReplayError where not even all of them together pass.
    """
    everything = frozenset(range(len(changes)))
    if not passes(everything):
        raise ReplayError("the suite does not pass on the release itself.")
    with ThreadPoolExecutor(workers) as pool:
        each = sorted(everything)
        ok = pool.map(lambda one: passes(frozenset({one})), each)
        alone = frozenset(one for one, passed in zip(each, ok, strict=True) if passed)
        needed = list(pool.map(lambda one: _needs(one, alone, everything, passes), each))
        blocks, below = _condense(needed, ())
        together: list[frozenset[int]] = []
        while pair := _conflict(blocks, below, everything, passes, pool):
            together.append(pair)
            blocks, below = _condense(needed, together)
    return _in_order(changes, blocks, below)


def _needs(one: int, alone: frozenset[int], everything: frozenset[int], passes: Passes) -> frozenset[int]:
    """A smallest set of other changes that ``one`` passes on top of; ``alone`` are those that pass on their own."""
    if one in alone:
        return frozenset()
    dependent = everything - alone - {one}
    kept = sorted(dependent) + sorted(alone)
    for fewer in (alone, dependent):
        if passes(fewer | {one}):
            kept = sorted(fewer)
            break
    needed: set[int] = set()
    while other := next(([left] for left in kept if left not in needed), None):
        without = [left for left in kept if left not in other]
        if not passes(frozenset([one, *without])):
            needed.update(other)
            continue
        kept = without
        if dependent.issuperset(other):  # what only that one needed may go as well
            needed.clear()
    return frozenset(kept)


def _condense(
    needed: Sequence[frozenset[int]], together: Sequence[frozenset[int]]
) -> tuple[list[frozenset[int]], dict[frozenset[int], frozenset[int]]]:
    """Blocks of changes that need each other, and for each block every change it rests on (its own left out)."""
    reach = [set(need) | {one} for one, need in enumerate(needed)]
    for joined in together:
        for one in joined:
            reach[one] |= joined
    for middle in range(len(reach)):
        for one in range(len(reach)):
            if middle in reach[one]:
                reach[one] |= reach[middle]
    blocks = sorted({frozenset(o for o in reach[one] if one in reach[o]) for one in range(len(reach))}, key=min)
    return blocks, {block: frozenset(reach[min(block)]) - block for block in blocks}


def _conflict(
    blocks: Sequence[frozenset[int]],
    below: dict[frozenset[int], frozenset[int]],
    everything: frozenset[int],
    passes: Passes,
    pool: ThreadPoolExecutor,
) -> frozenset[int] | None:
    """Two blocks, in one set, that have to be one: found by merging each block first and each block last."""
    first = pool.map(lambda block: passes(block | below[block]), blocks)
    for at, ok in enumerate(list(first)):
        if not ok:  # not even on top of what it depends on
            return blocks[at] | blocks[at + 1 if at + 1 < len(blocks) else at - 1]
    without = [everything - block.union(*(one for one in blocks if block <= below[one])) for block in blocks]
    last = pool.map(lambda rest: not rest or passes(rest), without)
    for block, rest, ok in zip(blocks, without, list(last), strict=True):
        if not ok:  # the first of the rest that does not pass without it
            merged: frozenset[int] = frozenset()
            for other in sorted((one for one in blocks if one <= rest), key=lambda one: len(below[one])):
                merged |= other
                if not passes(merged):
                    return block | other
    return None


def _in_order(
    changes: Sequence[Group], blocks: Sequence[frozenset[int]], below: dict[frozenset[int], frozenset[int]]
) -> list[Group]:
    """The blocks as groups, each after those it rests on; what follows from another dependency is left out."""
    made = {block: _joined([changes[one] for one in sorted(block)]) for block in blocks}
    ordered = sorted(blocks, key=lambda block: (len(below[block]), min(block)))
    groups = []
    for block in ordered:
        direct = [one for one in ordered if one <= below[block]]
        direct = [one for one in direct if not any(one <= below[other] for other in direct)]
        group = made[block]
        groups.append(Group(group.name, group.domain, group.paths, tuple(made[one].name for one in direct)))
    return groups


class Trials:
    """Runs a suite over the old release with some of the changes made; each combination once. Both releases pass."""

    def __init__(self, old: Release, new: Release, changes: Sequence[Group], suite: Suite, scratch: Path) -> None:
        self._old, self._new, self._changes, self._suite = old, new, changes, suite
        self._scratch = scratch
        self._known = {frozenset[int](): True, frozenset(range(len(changes))): True}  # the releases themselves
        self.runs = 0

    def passes(self, made: frozenset[int]) -> bool:
        """Whether the suite passes with the changes ``made``, by index."""
        if made not in self._known:
            self.runs += 1
            paths = [path for one in made for path in self._changes[one].paths]
            self._known[made] = try_tree(self._old, self._new, paths, self._suite, self._scratch, "-x").passed
        return self._known[made]


def try_tree(old: Release, new: Release, paths: Sequence[str], suite: Suite, scratch: Path, *options: str) -> Outcome:
    """Run the suite, with pytest's ``options``, over a copy of ``old`` with ``paths`` as they are in ``new``."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        tree = Path(folder, "tree")
        shutil.copytree(old.folder, tree, symlinks=True)
        put(paths, new.folder, tree)
        return suite.run(tree, *options)


def between(old: Release, new: Release, suite: Suite, scratch: Path) -> tuple[list[Group], int]:
    """The groups of changes from ``old`` to ``new``, which both pass, and how many runs it took to form them."""
    changes = candidates(differing(old.files, new.files))
    trials = Trials(old, new, changes, suite, scratch)
    groups = form(changes, trials.passes, workers=WORKERS)
    if len(groups) < 2:
        raise ReplayError(f"the changes from {old} to {new} cannot be split in two: choose other releases.")
    return groups, trials.runs


def _is_test(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return parts[-1].startswith(("test_", "conftest")) or bool({"test", "tests", "testing"} & set(parts[:-1]))


def _stem(path: str) -> str:
    """``src/pkg/_keys.pyi`` and ``tests/test_keys.py`` -> ``keys``; a package's ``__init__`` -> the package's name."""
    place = PurePosixPath(path)
    name = place.parent.name if place.stem == "__init__" else place.stem
    return re.sub(r"^tests?_|_tests?$", "", name.strip("_")) or name


def _key(path: str, modules: set[str]) -> tuple[str, str]:
    """The domain and the name of the group that ``path`` belongs to."""
    place = PurePosixPath(path)
    at_top = len(place.parts) == 1
    if place.parts[0] in _DOCUMENT_FOLDERS or (at_top and place.suffix in _DOCUMENTS):
        return "docs", "docs"
    built = place.parts[0].startswith(".") or any(part.endswith(".egg-info") for part in place.parts)
    if built or (at_top and (place.suffix != ".py" or place.name in _BUILD_SCRIPTS)):
        return "packaging", "packaging"
    stem = _stem(path)
    if stem not in modules:  # test_keys_unicode.py belongs to keys.py, if that changed
        stem = max((one for one in modules if stem.startswith(one + "_")), key=len, default=stem)
    return "code", stem


def _joined(groups: Sequence[Group]) -> Group:
    """One group out of several; ``code`` is its domain as soon as one of them is code."""
    if len(groups) == 1:
        return groups[0]
    domains = {group.domain for group in groups}
    names = [name for group in groups for name in group.name.split("+")]
    return Group(
        name="+".join(sorted(names)),
        domain=domains.pop() if len(domains) == 1 else "code",
        paths=tuple(sorted(path for group in groups for path in group.paths)),
    )
