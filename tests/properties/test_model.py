"""The service against the reference model: no divergence, every invariant after every step, and the log replays.

Counts: a tenth in a test run, all of it with MAF_SOAK=1. MAF_SEED repeats a run; MAF_SHRINK=1 makes
the failing sequence short, which takes minutes.
"""

import os
import random
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from orchestrator.domain import lifecycle as lc
from tests.properties.machine import Machine
from tests.support.soak import SOAK

STEPS = 50
RUNS = {"sqlite": 300, "postgres": 150} if SOAK else {"sqlite": 30, "postgres": 15}


@pytest.mark.timeout(3600)
def test_no_divergence_from_the_model(store_kind, new_store_url, record_property):
    counted = {"runs": 0, "steps": 0, "accepted": 0, "refused": 0, "actions": Counter()}
    # The test itself makes the stores, so that a run costs a schema, not a fixture.
    machine = type("Run", (Machine,), {"new_url": staticmethod(new_store_url), "counted": counted})
    number = int(os.environ.get("MAF_SEED") or random.randrange(2**32))
    record_property("seed", number)
    print(f"seed {number}: MAF_SEED={number} repeats it")
    began = time.monotonic()
    chosen = settings(
        max_examples=RUNS[store_kind], stateful_step_count=STEPS, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        phases=[Phase.generate, *([Phase.shrink] if os.environ.get("MAF_SHRINK") else [])],
    )  # fmt: skip
    run_state_machine_as_test(seed(number)(machine), settings=chosen)
    for name, value in counted.items():
        record_property(name, dict(sorted(value.items())) if name == "actions" else value)
    print(counted)
    record_property("seconds", round(time.monotonic() - began, 1))
    assert counted["runs"] >= RUNS[store_kind]
    assert counted["accepted"] > counted["refused"] / 3, "most calls were refused: this run has shown little"
    never = (set(lc.STORY_ACTIONS) if SOAK else {"submit", "pass", "merge"}) - set(counted["actions"])
    assert not never, f"never accepted, so the stories did not come far enough: {never}"
