"""kill -9 of ``maf run`` at random moments over the demo: run again, it ends in the same tree."""

import os
import random
import subprocess
import time

import pytest

from orchestrator.demo import sample, stage
from orchestrator.git import Repository
from orchestrator.service import invariants, stories
from orchestrator.service.context import Context
from orchestrator.store import open_store
from tests.runner.test_demo import expected_tree, git
from tests.support.soak import count
from tests.support.terminal import MAF, environment, leftovers

KILLS_OF_ONE = 4
"""How often one demo is interrupted; each takes as long as it takes."""


def run(root, url):
    return subprocess.Popen(
        [MAF, "run", "--db", url], cwd=root, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def interrupted(root, url, moments, spent):
    """Kill the run at each of the moments (seconds after its start), then let it end."""
    for moment in moments:
        process = run(root, url)
        try:
            output, _ = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            spent.append(moment)
            continue
        assert process.returncode == 0, output.decode()
        return
    process = run(root, url)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output.decode()


def holds(root, url):
    with open_store(url) as store, Repository.open(root) as repo:
        ctx = Context(store)
        assert invariants.failed(invariants.check(ctx, repo, sample.TARGET)) == []
        assert {s["status"] for s in stories.listing(ctx)} == {"completed"}
    want = expected_tree()
    assert set(git(root, "ls-tree", "-r", "--name-only", "main").split()) == {*want, "maf.toml"}
    assert {path: git(root, "show", f"main:{path}") for path in want} == want
    assert git(root, "rev-list", "--merges", "--first-parent", "--count", "main").strip() == "10"
    assert git(root, "status", "--porcelain", "--untracked-files=all") == ""
    assert leftovers(root) == []


@pytest.mark.timeout(3600 if os.environ.get("MAF_SOAK") else 400)
def test_the_demo_killed_at_random_ends_in_the_same_tree(tmp_path, new_store_url, record_property):
    seed = int(os.environ.get("MAF_SEED") or time.time())
    record_property("seed", seed)
    chosen, spent, wanted = random.Random(seed), [], count(20, 2)  # 40 over both stores
    while len(spent) < wanted:
        root = tmp_path / f"demo-{len(spent)}"
        root.mkdir()
        url = new_store_url()
        stage.build(root, url).close()
        moments = [round(chosen.uniform(0.3, 9.0), 2) for _ in range(min(KILLS_OF_ONE, wanted - len(spent)))]
        before = len(spent)
        interrupted(root, url, moments, spent)
        holds(root, url)
        assert len(spent) > before, f"seed {seed}: the run was over before {moments}"
    record_property("kills", len(spent))
