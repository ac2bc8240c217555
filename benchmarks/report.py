"""What is printed and kept: a table of figures, and the machine they hold for (without its name or any path)."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import psycopg

from benchmarks.common import ROOT, SEED, Figure, Place, Size, file_system

HEAD = ("benchmark", "store", "maf", "floor", "ratio", "target", "")
UNITS = {"ms": "{:.3f} ms", "s": "{:.2f} s", "MB": "{:.0f} MB", "% of a core": "{:.2f} %"}


def table(figures: Sequence[Figure]) -> str:
    """Markdown."""
    rows = [HEAD, tuple("---" for _ in HEAD)]
    for one in figures:
        form = UNITS[one.unit]
        rows.append((
            one.name, one.store, form.format(one.ours), form.format(one.floor) if one.floor is not None else "-",
            f"{one.value:.2f}" if one.floor is not None else "-",
            f"≤ {one.target:g}" if one.floor is not None else f"< {form.format(one.target)}",
            "ok" if one.ok else "MISSED",
        ))  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def facts(place: Place, stores: Sequence[str], size: Size) -> dict[str, Any]:
    """Where and with what it was measured."""
    found: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "size": size.name, "seed": SEED,
        "system": f"{platform.system()} {platform.release()}", "processor": _processor(), "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2), "file_system": file_system(place.folder),
        "python": platform.python_version(), "sqlite": apsw.sqlite_lib_version(), "psycopg": psycopg.__version__,
        "git": subprocess.run(["git", "--version"], capture_output=True, text=True).stdout.split()[-1],
        "commit": subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip(),
    }  # fmt: skip
    if "postgres" in stores:
        found["postgres"] = place.server()["version"]
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def keep(folder: Path, name: str, figures: Sequence[Figure], about: dict[str, Any]) -> None:
    """Write ``NAME.json`` and ``NAME.md``; figures that are there already and were not measured now stay, as dated."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    kept = json.loads(path.read_text())["figures"] if path.exists() else []
    now = {(one.name, one.store): {**one.as_dict(), "at": about["date"], "of": about["commit"]} for one in figures}
    rows = [now.pop((old["name"], old["store"]), old) for old in kept] + list(now.values())
    path.write_text(json.dumps({"facts": about, "figures": rows}, indent=2, ensure_ascii=False) + "\n")
    every = [Figure(**{key: row[key] for key in Figure.__dataclass_fields__}) for row in rows]
    lines = "".join(f"- {key.replace('_', ' ')}: {value}\n" for key, value in about.items())
    (folder / f"{name}.md").write_text(f"# Figures of {about['date']}\n\n{table(every)}\n{lines}")
