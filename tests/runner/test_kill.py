"""kill -9 of ``maf run``, anywhere: run again, it ends in the same tree, with nothing lost, doubled or left behind."""

import os
import random
import time

import pytest

from orchestrator.domain.settings import Run
from tests.support.project import Sandbox, script
from tests.support.runs import InProcess, processes_in

STORE_KINDS = ("sqlite", "postgres")
SOAK = os.environ.get("MAF_SOAK") == "1"
STORIES = {"W1": ["A1", "A2", "A3", "A4"], "W2": ["B1", "B2", "B3"], "W3": ["C1", "C2"]}
EXPECTED = {f"f-{code}": f"work of {code}" for codes in STORIES.values() for code in codes}
SHARED = "\n".join(sorted(code for codes in STORIES.values() for code in codes))

# Works in two commits, in one file of its own and one that all share, and resolves conflicts in it. Asked again, it
# goes on from what it finds. What it has committed is noted outside the repository.
AGENT = """
note() { git rev-parse HEAD >> NOTES; }
if git rev-parse -q --verify MERGE_HEAD > /dev/null; then
    { git show :2:shared; git show :3:shared; } | sort -u > shared
    git add . && git commit -qm "resolved {story}" && note
fi
echo half > f-{story}; git add .
git diff --cached --quiet || { git commit -qm "half of {story}" && note; }
touch shared
grep -qx {story} shared || { echo {story} >> shared; sort -u -o shared shared; }
echo "work of {story}" > f-{story}; git add .
git diff --cached --quiet || { git commit -qm "{story}" && note; }
""".strip()

POINTS = [
    "after register 2", "after assign 1", "after create_branch 1", "after add_worktree 2", "after start 1",
    "after begin 2", "after spawn 1", "after launched 1", "before end 1", "after advance 1", "before submit 1",
    "after submit 1", "after archive 1", "after checkout_detached 1", "before qa_pass 1", "after qa_pass 1",
    "after accept 1", "after commit_merge 1", "after integrate 1", "before update_branch 1", "after update_branch 1",
    "after merge 1", "before update_checkout 1", "after update_checkout 1", "before remove_worktree 1",
    "after remove_worktree 1", "after refresh_branch 1",
]  # fmt: skip


@pytest.fixture
def new_plan(tmp_path, new_store_url):
    """A function: another plan of three waves in a row, with dependencies; all stories touch one shared file."""
    made = []

    def new():
        home = tmp_path / f"plan-{len(made)}"
        home.mkdir()
        box = Sandbox(home / "repo", new_store_url())
        made.append(box)
        box.notes = home / "notes"
        box.notes.touch()
        agent = script(AGENT.replace("NOTES", str(box.notes)))
        box.set(agents=(agent,), run=Run(agents=3, backoff=0.01, max_attempts=5))
        before = ()
        for wave, codes in STORIES.items():
            box.wave(wave, start=False, after=before)
            for code in codes:
                box.story(code, wave, after=codes[:1] if code == codes[-1] else ())
            before = (wave,)
        return box

    yield new
    for box in made:
        box.close()


def check(box):
    """The same end, whatever happened on the way."""
    tree = box.tree()
    assert {name: tree[name] for name in EXPECTED} == EXPECTED
    assert tree["shared"] == SHARED, box.git("log", "--graph", "-m", "-p", "--format=%h %p %an %s", "--", "shared")
    assert set(tree) == {*EXPECTED, "shared", "README", ".gitignore"}
    assert sorted(box.merges()) == sorted(code for codes in STORIES.values() for code in codes)
    for commit in box.notes.read_text().split():
        assert box.kept(commit), commit
    assert box.git("status", "--porcelain") == ""
    assert box.git("fsck", "--connectivity-only", "--no-dangling") == ""
    for codes in STORIES.values():
        for code in codes:
            assert all(run["ended_at"] for run in box.show(code)["runs"])
    box.sound()
    settled(box)


def settled(box):
    """No process is left; those of a killed run have seconds to be gone."""
    until = time.monotonic() + 20
    while left := processes_in(box.root):
        assert time.monotonic() < until, left
        time.sleep(0.02)


@pytest.mark.timeout(1200 if SOAK else 120)
def test_at_random_moments(new_plan):
    """Two kills on each store, twenty in a soak, at most four to a plan.

    The moments are random, from a seed that is printed; what happens at them is the machine's.
    """
    seed = int(os.environ.get("MAF_SEED", "0")) or random.randrange(2**32)
    print(f"seed {seed}: MAF_SEED={seed} repeats the moments")
    moments = random.Random(seed)
    left = 20 if SOAK else 2
    while left:
        plan = new_plan()
        for _ in range(4):
            if left and killed(plan, moments):
                left -= 1
            else:
                break
        finish(plan)


def killed(plan, moments):
    """Kill one run: one time in four while it starts, else at some time after its first event. False: it was done."""
    process = InProcess(plan)
    early, wait = moments.random() < 0.25, moments.uniform(0.0, 1.0)
    if not early:
        process.process.stdout.readline()
    time.sleep(wait / 2 if early else wait)  # the random moment itself
    return process.kill() == -9


def finish(box):
    process = InProcess(box)
    assert process.join() == 0, process.events
    check(box)


@pytest.mark.timeout(600 if SOAK else 120)
def test_at_chosen_points(new_plan, store_kind):
    """One run after the other is killed at the next point, over one plan; each store has a quarter, in a soak all."""
    points = POINTS if SOAK else POINTS[STORE_KINDS.index(store_kind) :: 4]
    plan, reached = new_plan(), []
    for point in points:
        process = InProcess(plan, kill_at=point)
        code = process.join()
        assert code in (-9, 0), (point, process.events)
        if code == 0:
            break
        reached.append(point)
    finish(plan)
    assert len(reached) >= len(points) * 3 // 4, reached
