"""``python -m benchmarks [NAME…]``: measure, print a table, keep it in ``benchmarks/results/``."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.common import ROOT, STORES, Figure, Size, place

NAMES = ("signal_send", "story_claim", "long_history", "two_hundred", "idle")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones, of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--store", choices=(*STORES, "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a shorter history, 40 stories")
    parser.add_argument("--folder", type=Path, help="where to measure, on a real disk (default .build/bench)")
    parser.add_argument(
        "--keep", metavar="NAME", help="name the kept files (default: figures; quick ones are not kept)"
    )
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    size = Size("quick" if given.quick else "full")
    stores = STORES if given.store == "both" else (given.store,)
    figures: list[Figure] = []
    with place(given.folder) as here:
        about = report.facts(here, stores, size)
        for name in given.names or NAMES:
            measure = importlib.import_module(f"benchmarks.{name}").measure
            for store in stores:
                began = time.monotonic()
                found = measure(here, store, size)
                figures += found
                for one in found:
                    print(f"{one.name} on {store}: {one.value:.3g} ({time.monotonic() - began:.0f} s)", file=sys.stderr)
    print(report.table(figures))
    if given.keep or not (given.quick or given.names):
        report.keep(ROOT / "benchmarks" / "results", given.keep or "figures", figures, about)
    return 0 if all(one.ok for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
