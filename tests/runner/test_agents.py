"""Agents of every kind of bad behaviour: the story is released, tried again, failed with a reason; the rest goes on."""

import pytest

from orchestrator.domain.moments import between
from orchestrator.domain.settings import DevAgent, Domain, Run
from orchestrator.service import board, sessions, waves
from tests.support.project import WRITES, script
from tests.support.runs import InThread, processes_in, run

BAD = {
    "exits 0 without work": ("exit 0", "no_submit", "no commit of its own"),
    "exits 1": ("echo cannot do it; exit 1", "failed", "cannot do it"),
    "hangs": ("sleep 600", "timeout", "ran longer than"),
    "ignores SIGTERM": ("trap '' TERM; sleep 600 & wait; sleep 600", "timeout", "ran longer than"),
    "floods": ("yes", "output_limit", "wrote more than"),
    "dies": ("kill -9 $$", "failed", "killed by signal 9"),
}


def mixed(bad):
    """One agent: as told on the story BAD, well on all others."""
    good = "echo {story} > f-{story}; git add . && git commit -qm {story}"
    return script(f"if [ {{story}} = BAD ]; then\n{bad}\nelse\n{good}\nfi")


@pytest.mark.parametrize(("bad", "outcome", "said"), BAD.values(), ids=BAD)
def test_a_bad_agent_fails_its_story_with_a_reason_and_the_rest_goes_on(box, bad, outcome, said):
    attempts = 1 if "trap" in bad else 2
    box.set(agents=(mixed(bad),), run=Run(max_attempts=attempts, timeout=1.5, output_limit=20_000, backoff=0.01))
    box.wave(stories_=["BAD", "G1", "G2"], start=False)
    there = run(box)
    assert there.result is False
    story = box.show("BAD")
    assert story["status"] == "failed"
    assert [r["outcome"] for r in story["runs"]] == [outcome] * attempts
    assert story["attempts"] == attempts
    assert {box.show(c)["status"] for c in ("G1", "G2")} == {"completed"}
    assert waves.status(box.ctx, "W1")["status"] == "failed"
    [signal] = [s for s in all_signals(box) if s["signal_type"] == "story_failed"]
    assert said in signal["payload"]["reason"]
    assert f"no attempt is left of {attempts}" in signal["payload"]["reason"]
    assert len([g for g in story["gates"] if g["transition_type"] == "reset"]) == attempts
    assert processes_in(box.root) == []
    box.sound()


def all_signals(box):
    return board.signals(box.ctx, limit=10_000)


def test_a_program_that_is_not_there(box):
    box.set(agents=(DevAgent("dev", ("no-such-agent", "--go")),), run=Run(max_attempts=2, backoff=0.01))
    box.wave(stories_=["S1"], start=False)
    run(box)
    story = box.show("S1")
    assert [r["outcome"] for r in story["runs"]] == ["not_started"] * 2
    assert all(r["ended_at"] for r in story["runs"])
    assert "no-such-agent" in story["gates"][-1]["notes"]
    box.sound()


def test_a_prompt_that_no_argument_can_carry(box):
    """An argv over the system's limit: an attempt like any other, recorded and counted."""
    agent = DevAgent("dev", ("true",), prompt="argument")
    box.set(agents=(agent,), run=Run(max_attempts=2, backoff=0.01))
    box.wave(start=False)
    box.story("S1", description="é" * 65_000, criteria=["é" * 2000] * 15)
    run(box)
    story = box.show("S1")
    assert story["status"] == "failed"
    assert all(r["ended_at"] for r in story["runs"])
    box.sound()


def test_a_worktree_that_cannot_be_made_is_an_attempt_too(box):
    (box.root / ".maf/worktrees").mkdir(parents=True)
    (box.root / ".maf/worktrees/S1").write_text("in the way")
    box.set(agents=(WRITES,), run=Run(max_attempts=2, backoff=0.01))
    box.wave(stories_=["S1", "S2"], start=False)
    run(box)
    assert box.show("S1")["status"] == "failed"
    assert "is a file" in box.show("S1")["gates"][-1]["notes"]
    assert box.show("S2")["status"] == "completed"
    box.sound()


def test_children_that_leave_session_and_parent_end_with_their_agent(box):
    leaves = (
        "(setsid sh -c 'sleep 600 & sleep 600' &) ; setsid sleep 600 & echo {story} > f; git add f; git commit -qm x"
    )
    box.set(agents=(script(leaves),))
    box.wave(stories_=["S1"], start=False)
    assert run(box).result
    assert processes_in(box.root) == []


def test_retries_wait_longer_each_time(box):
    box.set(agents=(script("exit 1"),), run=Run(max_attempts=4, backoff=0.2, backoff_max=0.5))
    box.wave(stories_=["S1"], start=False)
    run(box)
    began = [r["started_at"] for r in box.show("S1")["runs"]]
    ended = [r["ended_at"] for r in box.show("S1")["runs"]]
    pauses = [between(end, begin) for end, begin in zip(ended, began[1:], strict=False)]
    assert [pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.5), strict=True)] == [True] * 3, pauses


def test_an_attempt_that_succeeds_after_failures(box):
    """Fails twice, and finds its own earlier work the third time: nothing that it left is lost."""
    tries = "echo more >> tried; test $(wc -l < tried) -ge 3 && git add . && git commit -qm done"
    box.set(agents=(script(tries),), run=Run(max_attempts=3, backoff=0.01))
    box.wave(stories_=["S1"], start=False)
    assert run(box).result
    assert box.tree()["tried"] == "more\nmore\nmore"
    assert [r["outcome"] for r in box.show("S1")["runs"]] == ["failed", "failed", "done"]
    box.sound()


def test_a_reopened_story_has_its_attempts_again(box):
    flag = box.root.parent / "flag"
    box.set(agents=(script(f"test -e {flag} && echo 1 > f && git add f && git commit -qm x"),),
            run=Run(max_attempts=2, backoff=0.01))  # fmt: skip
    box.wave(stories_=["S1"], start=False)
    assert run(box).result is False
    flag.touch()
    box.crew()
    waves.retry(box.as_("pm").ctx, "W1")
    assert run(box).result
    box.sound()


def test_what_an_agent_gets(box):
    says = 'echo "$MAF_AGENT $MAF_STORY $MAF_TOKEN $MAF_SESSION $WITH {worktree}" > env; test -z "$HIDDEN";'
    agent = DevAgent("dev", ("sh", "-c", says + "cat > prompt; git add .; git commit -qm x"), submits=False,
                     environment={"WITH": "this"})  # fmt: skip
    box.set(agents=(agent,))
    box.wave(start=False)
    box.story("S1", title="Make it so", criteria=["it is so"])
    assert run(box).result
    tree = box.tree()
    assert tree["env"] == f"dev-1 S1 1 1 this {box.root}/.maf/worktrees/S1"
    assert "Make it so" in tree["prompt"]
    assert "it is so" in tree["prompt"]
    [record] = box.show("S1")["runs"]
    assert (box.root / record["log_path"]).exists()


def test_an_agent_that_knows_maf_submits_by_itself(both):
    """It takes its gates with the library, as `maf story …` does, then lingers until QA has rejected it once."""
    agent = DevAgent("dev", ("{python}", "-c", KNOWS, str(both.root), "{story}"), prompt="none")
    both.set(agents=(agent,), run=Run(max_attempts=3, backoff=0.01))
    both.wave(stories_=["S1"], start=False)
    assert run(both).result
    story = both.show("S1")
    assert [r["outcome"] for r in story["runs"]] == ["done", "done"]
    assert [g["transition_type"] for g in story["gates"]].count("reject") == 1
    assert [g["transition_type"] for g in story["gates"]].count("reset") == 0
    both.sound()


KNOWS = """
import os, sys, pathlib, pickle, subprocess
from orchestrator.gates import dev
from orchestrator.gates.project import Project
from orchestrator.git import Repository
from orchestrator.service import reviews, sessions, stories
from orchestrator.service.context import Context
from orchestrator.store import open_store
from orchestrator.domain.settings import Checks, Settings
root, code = pathlib.Path(sys.argv[1]), sys.argv[2]
ctx = Context(open_store(os.environ["MAF_DB"]), agent=os.environ["MAF_AGENT"], epoch=int(os.environ["MAF_SESSION"]),
              token=int(os.environ["MAF_TOKEN"]))
project = Project(Repository.open(root), Settings(checks=Checks(none="a test")), ctx)
first = not stories.show(ctx, code)["qa_reports"]
with open("f", "a") as f: f.write("x\\n")
subprocess.run(["git", "add", "f"], check=True)
subprocess.run(["git", "commit", "-qm", "x"], check=True)
while stories.show(ctx, code)["current_gate"] < 3:
    dev.advance(project, code)
if first:
    # QA is faster than the end of this process.
    real = stories.submit
    def submit(*a, **k):
        done = real(*a, **k)
        sessions.register(ctx.acting("user"), "strict", "qa")
        reviews.qa_reject(ctx.acting("strict"), code, findings=["again"])
        return done
    dev.stories.submit = submit
dev.submit(project, code)
"""


def test_kinds_work_in_their_domains(box):
    def kind(name, domain=None, count=None):
        text = 'echo "$MAF_AGENT" > {story}; git add . && git commit -qm {story}'
        return DevAgent(name, ("sh", "-c", text), domain=domain, count=count, prompt="none", submits=False)

    box.set(agents=(kind("any", count=1), kind("weber", "web"), kind("corer", "core")),
            domains={"web": Domain(), "core": Domain()}, run=Run(agents=6))  # fmt: skip
    box.wave(start=False)
    for number in range(3):
        box.story(f"C{number}", domain="core")
        box.story(f"W{number}", domain="web")
        box.story(f"X{number}", domain="odd")
    assert run(box).result
    tree = box.tree()
    assert {tree[f"X{n}"] for n in range(3)} == {"any-1"}
    assert {tree[f"C{n}"].split("-")[0] for n in range(3)} <= {"corer", "any"}
    assert {tree[f"W{n}"].split("-")[0] for n in range(3)} <= {"weber", "any"}
    box.sound()


def test_a_domain_that_nobody_works_in_is_said_and_waits(box):
    agent = DevAgent("dev", WRITES.command, domain="web", prompt="none", submits=False)
    box.set(agents=(agent,))
    box.wave(stories_=["S1"], start=False, domain="core")
    there = run(box, until="idle")
    assert box.show("S1")["status"] == "ready"
    assert any("no [[agents]]" in text for text in there.said())


def test_an_id_that_somebody_uses_is_passed_over(box):
    sessions.register(box.ctx, "dev-1", "dev")
    box.set(agents=(WRITES,), run=Run(agents=2))
    box.wave(stories_=["S1", "S2"], start=False)
    assert run(box).result
    assert sessions.show(box.ctx, "dev-1")["status"] != "terminated"
    assert {r["agent_id"] for c in ("S1", "S2") for r in box.show(c)["runs"]} <= {"dev-2", "dev-3"}


def test_a_dev_whose_session_a_person_ends_is_ended_and_replaced(box):
    """Also while others work: the ids that are in use are not asked for again."""
    gate = box.root.parent / "go"
    waits = f"until [ -e {gate} ]; do sleep 0.05; done; echo 1 > f-{{story}}; git add . && git commit -qm x"
    box.set(agents=(script(waits),), run=Run(agents=2, backoff=0.01))
    box.wave(stories_=["S1", "S2"], start=False)
    there = InThread(box)
    there.wait("agent", "dev-1 works"), there.wait("agent", "dev-2 works")
    sessions.end(box.ctx, "dev-1")
    there.wait("attempt", "dev-1")
    gate.touch()
    assert there.join()
    assert processes_in(box.root) == []
    box.sound()


def test_an_agent_whose_worktree_lost_its_git_file_does_not_reach_the_users_checkout(box):
    """Above the worktree lies the user's own checkout: git must not find that instead."""
    tracked = box.git("ls-files").split()[0]
    (box.root / tracked).write_text("mine, uncommitted\n")
    before = box.git("rev-parse", "HEAD")
    box.set(agents=(script("rm -f .git; git commit -qam swept-up; git reset -q --hard"),),
            run=Run(max_attempts=1, backoff=0.01))  # fmt: skip
    box.wave(stories_=["S1"], start=False)
    run(box)
    assert box.show("S1")["status"] == "failed"
    assert box.git("rev-parse", "HEAD") == before
    assert (box.root / tracked).read_text() == "mine, uncommitted\n"
