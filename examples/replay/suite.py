"""A package's own test suite: its environment, and one run of it over a tree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from releases import ReplayError, pip_reason

HERE = Path(__file__).resolve().parent
CHECKS = HERE / "checks.py"
PINS = HERE.parents[1] / "constraints.txt"
TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a suite. ``collected`` counts tests; ``output`` is what it printed."""

    passed: bool
    collected: int
    skipped: int
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class Suite:
    """A package's suite, run with the Python of an environment that holds pytest and what the tests need, no more."""

    python: Path

    @property
    def command(self) -> list[str]:
        """The argv that runs the suite of the current folder."""
        return [str(self.python), "-B", "-P", str(CHECKS)]

    def run(self, tree: Path, *options: str) -> Outcome:
        """Run the suite over ``tree``, with pytest's ``options``. One that hangs or collects nothing has not passed."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHON", "MAF_"))
        }
        started = time.monotonic()
        try:
            done = subprocess.run(
                [*self.command, *options],
                cwd=tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
            )
            code, output = done.returncode, done.stdout.decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            code, output = 1, f"the suite did not end within {TIMEOUT_S} s"
        counts = counted(output)
        return Outcome(
            passed=code == 0 and counts["collected"] > 0,
            collected=counts["collected"],
            skipped=counts["skipped"],
            seconds=time.monotonic() - started,
            output=output,
        )


def counted(output: str) -> dict[str, int]:
    """The counts in the last line that checks.py printed; zeros where it never came to that."""
    for line in reversed(output.splitlines()):
        if line.startswith("replay: {"):
            return {name: int(number) for name, number in json.loads(line.removeprefix("replay: ")).items()}
    return {"collected": 0, "deselected": 0, "passed": 0, "failed": 0, "skipped": 0}


def prepare(folder: Path, needs: Sequence[str] = ()) -> Suite:
    """The suite's environment in ``folder``, made where it does not stand yet: pytest as the project pins it.

    ``needs`` are further requirements of the package's tests. Raises ReplayError where they cannot be installed.
    """
    suite = Suite(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    wanted = hashlib.sha256("\n".join([sys.version, PINS.read_text("utf-8"), *needs]).encode()).hexdigest()
    ready = folder / "ready"
    if ready.is_file() and ready.read_text("utf-8") == wanted:
        return suite
    shutil.rmtree(folder, ignore_errors=True)
    print("  making the environment of its test suite", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(suite.python), "install", "--quiet", "--no-input"]
    pip += ["--disable-pip-version-check", "--retries", "2"]
    for command in ([*pip, "-c", str(PINS), "pytest"], [*pip, *needs] if needs else []):
        done = subprocess.run(command, capture_output=True, text=True) if command else None
        if done is not None and done.returncode:
            raise ReplayError(
                f"the test suite's environment could not be made: {pip_reason(done.stderr)}\n"
                "It is made once, and needs the package index for that. Check the network, then run the replay again."
            )
    ready.write_text(wanted, "utf-8")
    return suite
