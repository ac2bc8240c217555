"""The proofs at full count on both stores, and a report of them with their seeds.

``make soak`` runs this; ``ARGS="tests/races"`` runs a part, ``MAF_SEED=N`` repeats a run's random choices. The report
is ``benchmarks/results/soak-DATE.json`` and ``.md``: what ran, how often, with which seed, how long, passed or not.
"""

from __future__ import annotations

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PARTS = ("tests/properties", "tests/races", "tests/runner", "tests/cli")
"""Where tests scale their counts by MAF_SOAK; those that do not run as they always do."""


def main(arguments: list[str]) -> int:
    parts = arguments or [part for part in PARTS if (ROOT / part).is_dir()]
    seed = int(os.environ.get("MAF_SEED") or random.randrange(2**32))
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        done = subprocess.run(
            [
                sys.executable, "-m", "pytest", *parts, "-n0", "-q", f"--junitxml={report}",
                "-o", "junit_family=xunit1", "-o", "timeout=7200",
            ],
            cwd=ROOT, env={**os.environ, "MAF_SOAK": "1", "MAF_SEED": str(seed)},
        )  # fmt: skip
        tests = list(read(report)) if report.is_file() else []
    result = {
        "began": began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seconds": round((datetime.now(UTC) - began).total_seconds()),
        "seed": seed,
        "exit_code": done.returncode,
        "passed": sum(test["outcome"] == "passed" for test in tests),
        "failed": sum(test["outcome"] == "failed" for test in tests),
        "skipped": sum(test["outcome"] == "skipped" for test in tests),
        "versions": versions(),
        "cpus": os.cpu_count(),
        "tests": tests,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    target = RESULTS / f"soak-{began:%Y-%m-%d-%H%M}"
    target.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    target.with_suffix(".md").write_text(markdown(result))
    print(f"{target.relative_to(ROOT)}.md: {result['passed']} passed, {result['failed']} failed, seed {seed}")
    return done.returncode or int(not tests)


def read(report: Path) -> Any:
    """Each test of a junit report: name, store, outcome, seconds and what it counted."""
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - written by our own pytest a moment ago
        outcome = next((word for tag, word in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped"))
                        if case.find(tag) is not None), "passed")  # fmt: skip
        name = str(case.get("name"))
        yield {
            "area": str(case.get("classname", "")).split(".")[1] if "." in str(case.get("classname")) else "",
            "name": name.split("[", maxsplit=1)[0],
            "store": next((store for store in ("sqlite", "postgres") if f"{store}" in name.partition("[")[2]), ""),
            "outcome": outcome,
            "seconds": round(float(case.get("time", 0)), 1),
            "counts": {p.get("name"): p.get("value") for p in case.iter("property")},
        }


def versions() -> dict[str, str]:
    import apsw
    import hypothesis

    git = subprocess.run(["git", "--version"], capture_output=True, text=True).stdout.split()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    sys.path.insert(0, str(ROOT))
    from tests.support.postgres import server_programs

    programs = server_programs()
    server = [str(programs / "postgres"), "--version"] if programs else ["true"]
    postgres = subprocess.run(server, capture_output=True, text=True).stdout.split()
    return {
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "postgres": "of MAF_TEST_POSTGRES_URL" if os.environ.get("MAF_TEST_POSTGRES_URL") else " ".join(postgres[2:3]),
        "hypothesis": hypothesis.__version__,
        "git": git[2] if len(git) > 2 else "",
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit,
    }


def markdown(result: dict[str, Any]) -> str:
    passed, failed, skipped = (result[word] for word in ("passed", "failed", "skipped"))
    seed = result["seed"]
    summary = f"{passed} passed, {failed} failed, {skipped} skipped in {result['seconds']} s on {result['cpus']} CPUs."
    lines = [
        f"# Soak of {result['began']}",
        "",
        f"{summary} Seed {seed} (`MAF_SEED={seed} make soak` draws the same).",
        "",
        ", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        "",
        "| area | test | store | outcome | seconds | counts |",
        "|---|---|---|---|---|---|",
    ]
    for test in result["tests"]:
        counts = ", ".join(f"{name} {value}" for name, value in test["counts"].items())
        name = test["name"].removeprefix("test_").replace("_", " ")
        lines.append(
            f"| {test['area']} | {name} | {test['store']} | {test['outcome']} | {test['seconds']} | {counts} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
