"""The replay's grouping, checks and proofs, on a tiny made-up package with its own tests; offline."""

from __future__ import annotations

import importlib
import itertools
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plans import load

REPLAY = Path(__file__).resolve().parents[2] / "examples" / "replay"


def _modules() -> SimpleNamespace:
    sys.path.insert(0, str(REPLAY))
    try:
        import agent
        import groups
        import plan
        import project
        import releases
        import suite
    finally:
        sys.path.remove(str(REPLAY))
    return SimpleNamespace(agent=agent, groups=groups, plan=plan, project=project, releases=releases, suite=suite)


R = _modules()

OLD = {
    "PKG-INFO": "Version: 1\n",
    "README.md": "one\n",
    "pyproject.toml": "[project]\nname = 'tiny'\n",
    "src/tiny/__init__.py": "",
    "src/tiny/core.py": "def area(a, b):\n    return a * b\n",
    "src/tiny/shapes.py": "from tiny.core import area\n\ndef square(a):\n    return area(a, a)\n",
    "src/tiny/colours.py": "RED = 1\n",
    "tests/test_core.py": "from tiny.core import area\n\ndef test_area():\n    assert area(2, 3) == 6\n",
    "tests/test_shapes.py": "from tiny.shapes import square\n\ndef test_square():\n    assert square(3) == 9\n",
    "tests/test_colours.py": "from tiny.colours import RED\n\ndef test_red():\n    assert RED == 1\n",
    "docs/old/gone.txt": "gone\n",
}
# area is called surface now, beside its old name: shapes wants the new one; volumes is new and wants shapes.
NEW = {
    **OLD,
    "PKG-INFO": "Version: 2\n",
    "README.md": "two\n",
    "src/tiny/core.py": "def surface(a, b):\n    return a * b\n\n\narea = surface\n",
    "src/tiny/shapes.py": "from tiny.core import surface\n\ndef square(a):\n    return surface(a, a)\n\nfaces = 6\n",
    "src/tiny/volumes.py": "from tiny.shapes import faces, square\n\ndef volume(a):\n    return square(a) * a\n",
    "src/tiny/colours.py": "RED = 2\n",
    "tests/test_core.py": "from tiny.core import surface\n\ndef test_surface():\n    assert surface(2, 3) == 6\n",
    "tests/test_volumes.py": "from tiny.volumes import volume\n\ndef test_volume():\n    assert volume(2) == 8\n",
    "tests/test_colours.py": "from tiny.colours import RED\n\ndef test_red():\n    assert RED == 2\n\n"
    "def test_more():\n    assert RED\n",
}
del NEW["docs/old/gone.txt"]


def write(folder: Path, files: dict[str, str]) -> Path:
    for path, content in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content, "utf-8")
    return folder


def release(folder: Path, version: str, files: dict[str, str]):
    write(folder / version, files)
    return R.releases.Release("tiny", version, folder / version, R.releases.describe(folder / version))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """An environment with pytest and nothing else, as the replay makes it, out of what is installed here."""
    home = tmp_path_factory.mktemp("suite") / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    for name in ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments"):
        origin = Path(importlib.import_module(name).__file__)
        origin = origin.parent if origin.stem == "__init__" else origin
        (packages / origin.name).symlink_to(origin)
    return R.suite.Suite(home / "bin" / "python")


@pytest.fixture
def pair(tmp_path):
    return release(tmp_path, "1.0", OLD), release(tmp_path, "2.0", NEW)


@pytest.fixture(scope="module")
def formed(tmp_path_factory, suite):
    """The groups between the two tiny releases, and both releases."""
    folder = tmp_path_factory.mktemp("formed")
    old, new = release(folder, "1.0", OLD), release(folder, "2.0", NEW)
    groups, runs = R.groups.between(old, new, suite, folder / "scratch")
    assert runs <= 40
    return groups, old, new


# --- forming groups: the algorithm, with a made-up verdict ------------------------------------------------------


def named(count: int):
    return [R.groups.Group(f"g{at}", "code", (f"f{at}.py",)) for at in range(count)]


def indices(group) -> set[int]:
    return {int(name[1:]) for name in group.name.split("+")}


def downsets(groups):
    """Every set of groups that holds with each group all those it comes after."""
    for count in range(len(groups) + 1):
        for chosen in itertools.combinations(groups, count):
            names = {group.name for group in chosen}
            if all(set(group.after) <= names for group in chosen):
                yield chosen


@settings(max_examples=150, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 5), max_size=2), min_size=2, max_size=6))
def test_whatever_needs_what_every_order_of_merging_passes(needs):
    needs = [{other for other in need if other < len(needs)} for need in needs]

    def passes(made):
        return all(needs[one] <= made for one in made)

    groups = R.groups.form(named(len(needs)), passes)
    assert sorted(path for group in groups for path in group.paths) == [f"f{at}.py" for at in range(len(needs))]
    for chosen in downsets(groups):
        made = frozenset(one for group in chosen for one in indices(group))
        assert passes(made), (groups, chosen)
    reach = [{one} for one in range(len(needs))]
    for _ in needs:
        reach = [seen.union(*(needs[other] for other in seen)) for seen in reach]
    mutual = {frozenset(other for other in reach[one] if one in reach[other]) for one in range(len(needs))}
    assert {frozenset(indices(group)) for group in groups} == mutual, "joined more than had to be"


def test_a_change_that_breaks_another_is_joined_with_it():
    # Each passes on its own, 0 and 1 together only with 2.
    groups = R.groups.form(named(4), lambda made: not {0, 1} <= made or 2 in made)
    assert all(
        not {0, 1} <= set().union(*(indices(one) for one in chosen)) or 2 in set().union(*(indices(o) for o in chosen))
        for chosen in downsets(groups)
        if chosen
    )
    assert len(groups) >= 2


def test_a_release_that_fails_itself_is_refused():
    with pytest.raises(R.releases.ReplayError, match="does not pass on the release"):
        R.groups.form(named(3), lambda made: len(made) < 3)


def test_files_are_put_together_by_name_and_folded_to_a_limit():
    paths = ["src/p/_keys.py", "src/p/keys.pyi", "tests/test_keys.py", "tests/test_keys_unicode.py", "p/__init__.py"]
    paths += ["docs/index.rst", "docs/conf.py", "README.md", "PKG-INFO", "p.egg-info/SOURCES.txt", "setup.py"]
    found = {group.name: (group.domain, group.paths) for group in R.groups.candidates(paths)}
    assert found == {
        "keys": ("code", ("src/p/_keys.py", "src/p/keys.pyi", "tests/test_keys.py", "tests/test_keys_unicode.py")),
        "p": ("code", ("p/__init__.py",)),
        "docs": ("docs", ("README.md", "docs/conf.py", "docs/index.rst")),
        "packaging": ("packaging", ("PKG-INFO", "p.egg-info/SOURCES.txt", "setup.py")),
    }
    many = R.groups.candidates([f"p/m{at:02}.py" for at in range(40)], 5)
    assert len(many) == 5
    assert sorted(path for group in many for path in group.paths) == [f"p/m{at:02}.py" for at in range(40)]
    assert max(len(group.paths) for group in many) <= 16


# --- forming groups: by running a real suite --------------------------------------------------------------------


def test_the_suite_finds_what_depends_on_what(formed):
    groups, _, _ = formed
    by_name = {group.name: group for group in groups}
    assert set(by_name) == {"core", "shapes", "volumes", "colours", "docs", "packaging"}
    assert by_name["shapes"].after == ("core",)
    assert by_name["volumes"].after == ("shapes",)
    assert by_name["core"].after == ()
    assert [name for name, group in by_name.items() if group.after] == ["shapes", "volumes"]


def test_every_order_of_merging_passes_the_real_suite(formed, suite, tmp_path):
    groups, old, new = formed
    code = [group for group in groups if group.domain == "code"]
    for chosen in downsets(code):
        paths = [path for group in chosen for path in group.paths]
        outcome = R.groups.try_tree(old, new, paths, suite, tmp_path)
        assert outcome.passed, (chosen, outcome.output)
    paths = [path for group in groups for path in group.paths]
    whole = R.groups.try_tree(old, new, paths, suite, tmp_path)
    assert (whole.passed, whole.collected) == (True, 5)


# --- the check command ------------------------------------------------------------------------------------------


def test_a_suite_with_a_deselected_test_has_not_passed(suite, tmp_path):
    write(
        tmp_path,
        {
            "test_it.py": "def test_a(): pass\ndef test_b(): pass\n",
            "conftest.py": "def pytest_collection_modifyitems(config, items):\n"
            "    config.hook.pytest_deselected(items=items[1:])\n    del items[1:]\n",
        },
    )
    outcome = suite.run(tmp_path)
    assert (outcome.passed, outcome.collected) == (False, 1)
    assert R.suite.counted(outcome.output)["deselected"] == 1


@pytest.mark.parametrize("content", ["", "def test_a(): assert 0\n", "import nowhere\n", "import os\nos._exit(0)\n"])
def test_a_suite_that_is_empty_fails_or_dies_has_not_passed(suite, tmp_path, content):
    write(tmp_path, {"test_it.py": content})
    assert not suite.run(tmp_path).passed


def test_the_configuration_of_a_folder_above_is_not_the_package_s(suite, tmp_path):
    write(tmp_path, {"pytest.ini": "[pytest]\naddopts = --no-such-option\n", "conftest.py": "raise SystemExit(3)\n"})
    outcome = suite.run(write(tmp_path / "package", {"test_it.py": "def test_a(): pass\n"}))
    assert (outcome.passed, outcome.collected) == (True, 1), outcome.output


# --- trees ------------------------------------------------------------------------------------------------------


def test_a_tree_is_brought_to_another_and_described_as_git_does(pair, suite, tmp_path):
    old, new = pair
    script = new.folder / "run.sh"
    script.write_text("#!/bin/sh\r\n")
    script.chmod(0o755)
    (new.folder / "link").symlink_to("src")
    (new.folder / ".gitignore").write_text("*.md\nrun.sh\n")
    (new.folder / ".gitattributes").write_text("* text=auto eol=crlf\n")
    new = R.releases.Release("tiny", "2.0", new.folder, R.releases.describe(new.folder))
    tree = tmp_path / "tree"
    R.releases.put(old.files, old.folder, tree)
    assert R.releases.describe(tree) == old.files
    R.releases.put(R.releases.differing(old.files, new.files), new.folder, tree)
    assert R.releases.digest(R.releases.describe(tree)) == new.digest != old.digest
    assert not (tree / "docs").exists()

    made = R.project.Project(tmp_path / "run", suite, new)
    made.create()
    assert made.tree("HEAD") == new.files
    assert new.files["run.sh"].mode == "100755"
    assert new.files["link"].mode == "120000"


def test_a_release_that_cannot_be_fetched_is_said_plainly(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(R.releases.ReplayError, match=r"no-such-package-of-ours 1\.0 could not be fetched") as caught:
        R.releases.fetch("no-such-package-of-ours", ["1.0"], tmp_path / "cache", tmp_path / "unpacked")
    assert "Check the network" in str(caught.value)


# --- the plan, the agent and the proof --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rebuilt(formed, suite, tmp_path_factory):
    """The tiny package rebuilt without maf, story after story."""
    groups, old, new = formed
    waves = R.plan.waves([old, new], [groups])
    made = R.project.Project(tmp_path_factory.mktemp("rebuilt") / "run", suite, old)
    made.create()
    made.simulate(waves)
    return made, waves


@pytest.fixture
def replayed(rebuilt, tmp_path):
    """A copy of it for each test to spoil."""
    made, waves = rebuilt
    shutil.copytree(made.home, tmp_path / "run", symlinks=True)
    return R.project.Project(tmp_path / "run", made.suite, made.first), waves


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_plan_is_one_that_maf_reads(formed, tmp_path):
    groups, old, new = formed
    newer = R.releases.Release("tiny", "3.0", new.folder, new.files)
    waves = R.plan.waves([old, new, newer], [groups, groups])
    R.plan.write_plan(waves, tmp_path / "plan.yaml")
    read = load([tmp_path / "plan.yaml"])
    assert [(wave.code, wave.after) for wave in read.waves] == [("tiny-2.0", ()), ("tiny-3.0", ("tiny-2.0",))]
    assert len(read.stories) == 2 * len(groups)
    after = {story.code: story.after for story in read.stories}
    assert after["tiny-2.0-shapes"] == ("tiny-2.0-core",)
    assert all(story.criteria for story in read.stories)


def test_the_proof_holds_for_an_honest_replay(replayed):
    made, waves = replayed
    assert made.verify(waves, [3, 5]) == [5]


def test_the_proof_finds_fewer_tests_than_the_release_has(replayed):
    made, waves = replayed
    with pytest.raises(R.releases.ReplayError, match="collects 5 tests of the release's own 6"):
        made.verify(waves, [3, 6])


def test_the_proof_finds_a_changed_byte_and_a_commit_that_is_no_merge(replayed):
    made, waves = replayed
    place = made.repository / "README.md"
    honest = place.read_bytes()
    place.write_bytes(honest + b" ")
    git(made.repository, "commit", "-qam", "a stray byte")
    with pytest.raises(R.releases.ReplayError, match=r"1 paths differ, such as README\.md"):
        made.verify(waves, [3, 5])
    place.write_bytes(honest)
    git(made.repository, "commit", "-qam", "taken back")
    with pytest.raises(R.releases.ReplayError, match="is not the merge of one story"):
        made.verify(waves, [3, 5])


def test_the_proof_finds_a_story_merged_twice(replayed):
    made, waves = replayed
    code = waves[0].stories[0].code
    git(made.repository, "checkout", "-q", "-b", "again")
    git(made.repository, "commit", "-q", "--allow-empty", "-m", "again")
    git(made.repository, "checkout", "-q", "main")
    git(made.repository, "merge", "-q", "--no-ff", "-m", f"Merge {code}: again", "again")
    with pytest.raises(R.releases.ReplayError, match=f"{code} was merged 2 times"):
        made.verify(waves, [3, 5])


def test_an_agent_s_second_attempt_finds_nothing_left_to_do(formed, suite, tmp_path):
    groups, old, new = formed
    made = R.project.Project(tmp_path / "run", suite, old)
    made.create()
    paths = [path for group in groups for path in group.paths]
    story = {"title": "everything", "source": str(new.folder), "paths": paths}
    R.agent.apply(story, made.repository)
    first = git(made.repository, "rev-parse", "HEAD")
    R.agent.apply(story, made.repository)
    assert git(made.repository, "rev-parse", "HEAD") == first
    assert made.tree("HEAD") == new.files
    assert git(made.repository, "status", "--porcelain") == ""
