"""Runs the suite of the package in the current folder with pytest: every test, with the package's own configuration.

The replay's check command: ``python -B -P checks.py [OPTION...]``, with the python of the package's own environment and
perhaps further options of pytest. It ends with one line of counts, and with pytest's exit code, or 1 where a test was
deselected. Knows nothing of maf.
"""

from __future__ import annotations

import configparser
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

MARK = "replay: "


class Counts:
    """A pytest plugin that counts what was collected, deselected and how each test ended."""

    def __init__(self) -> None:
        self.counts = {"collected": 0, "deselected": 0, "passed": 0, "failed": 0, "skipped": 0}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """After collection and every plugin's selection."""
        self.counts["collected"] = len(session.items)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """A plugin or an option took tests out."""
        self.counts["deselected"] += len(items)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One test's set-up, call or tear-down ended; subtests report apart and are not counted."""
        if type(report) is pytest.TestReport and (report.when == "call" or not report.passed):
            self.counts[report.outcome] += 1


def own_configuration(folder: Path) -> str:
    """The package's own pytest configuration, or the empty file: never one of a folder above it."""
    for name in ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini"):
        if (folder / name).is_file():
            return name
    project = folder / "pyproject.toml"
    if project.is_file() and "pytest" in tomllib.loads(project.read_text("utf-8")).get("tool", {}):
        return project.name
    for name, section in (("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")):
        parser = configparser.RawConfigParser(strict=False)
        parser.read(folder / name, encoding="utf-8")
        if parser.has_section(section):
            return name
    return os.devnull


def main() -> int:
    """Run the suite below the current folder."""
    folder = Path.cwd()
    sys.path[:0] = [str(folder / "src"), str(folder)]
    counts = Counts()
    options = ["-q", "-p", "no:cacheprovider", "-c", own_configuration(folder)]
    options += [f"--rootdir={folder}", f"--confcutdir={folder}", *sys.argv[1:]]
    code = int(pytest.main(options, plugins=[counts]))
    print(MARK + json.dumps(counts.counts))
    return code or int(counts.counts["deselected"] > 0)


if __name__ == "__main__":
    sys.exit(main())
