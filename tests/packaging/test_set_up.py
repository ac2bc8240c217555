"""What a clone, a wheel and the list of dependencies must look like."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGE = ROOT / "orchestrator"


# --- the wheel -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", target]
    subprocess.run([*command, ROOT], check=True, cwd=target)
    (built,) = target.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


@pytest.mark.parametrize("schema", ["schema_sqlite.sql", "schema_postgres.sql"])
def test_the_wheel_carries_the_schemas_of_the_top_level(wheel, schema):
    assert wheel.read(f"orchestrator/store/{schema}") == (ROOT / schema).read_bytes()


def test_the_wheel_carries_every_file_of_the_package(wheel):
    assert {str(path.relative_to(ROOT)) for path in tracked("orchestrator")} - set(wheel.namelist()) == set()
    assert "orchestrator/py.typed" in wheel.namelist()


def test_the_wheel_carries_nothing_but_the_package(wheel):
    assert {name.split("/")[0].split("-")[0] for name in wheel.namelist()} == {"orchestrator", "maf_orchestrator"}


def test_the_wheel_knows_its_command(wheel):
    (entry_points,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "maf = orchestrator.cli.main:main" in wheel.read(entry_points).decode()


# --- dependencies --------------------------------------------------------------------------------------------


def pins() -> dict[str, str]:
    """Name in lower case -> the whole entry, its continued lines joined."""
    text = (ROOT / "constraints.txt").read_text()
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return {re.split(r"[=<>~! ;]", line)[0].lower(): line for line in lines}


def test_every_pin_is_exact_and_has_hashes():
    assert pins()
    for name, entry in pins().items():
        assert re.match(r"[A-Za-z0-9._-]+==[^\s*]+ ", entry), name
        assert re.search(r" --hash=sha256:[0-9a-f]{64}(\s|$)", entry), name


def test_the_pins_name_no_index_and_no_place():
    assert re.search(r"://|@|--(extra-)?index|--find-links|-i\s|file:", (ROOT / "constraints.txt").read_text()) is None


def test_everything_that_is_asked_for_is_pinned():
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], *PROJECT["build-system"]["requires"]]
    names = {re.match(r"[A-Za-z0-9._-]+", requirement).group().lower().replace("_", "-") for requirement in wanted}
    assert names - set(pins()) == set()


# --- the source ----------------------------------------------------------------------------------------------


def tracked(*under: str) -> list[Path]:
    """The files git knows, also where the checkout belongs to another user than the one who tests it."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--", *under]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_place_of_the_machine_it_was_written_on():
    here = {str(place) for place in (ROOT, Path.home()) if len(place.parts) > 2}
    personal = re.compile(r"/(?:home|Users)/(?!linuxbrew\b)[a-z][a-z0-9_-]*/|/root/\.")
    for path in tracked():
        text = path.read_text(encoding="utf-8", errors="replace")
        assert [place for place in here if place in text] == [], path
        assert personal.search(text) is None, path


def test_no_index_of_packages_is_named():
    registry = re.compile("py" + r"pi\.org|python" + r"hosted\.org|--(?:extra-)?index-url[= ]+\S+://")  # not this file
    named = [path for path in tracked() if registry.search(path.read_text(encoding="utf-8", errors="replace"))]
    assert named == []


def test_only_two_packages_run_programs_without_importing_subprocess():
    """import-linter holds who imports subprocess; this holds the ways around it in ``os`` and ``asyncio``."""
    in_os = r"os\.(system|popen|posix_spawnp?|fork|forkpty|(spawn|exec)[lv]p?e?)"
    launchers = re.compile(rf"({in_os}|asyncio\.create_subprocess_\w+)\Z")
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] in {"git", "process"}:
            continue
        calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        where = path.relative_to(ROOT)
        found += [f"{where}:{call.lineno}" for call in calls if launchers.match(ast.unparse(call.func))]
    assert found == []


@pytest.mark.parametrize("target", ["demo", "test", "check", "replay", "bench", "binary", "test-real", "soak"])
def test_the_makefile_has_the_public_targets(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", ["binary", "test-real"])
def test_what_this_version_cannot_do_says_so_and_fails(target):
    done = subprocess.run(["make", "--no-print-directory", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "this version" in done.stderr
