"""Two checkouts of one repository on one store: one ``maf run`` at a time, and neither undoes the other's work."""

import time

import pytest

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import Refused
from orchestrator.domain.settings import HUMAN, RoleSettings, Run
from orchestrator.runner import recovery
from orchestrator.runner.loop import Runner
from orchestrator.service import runs, sessions
from tests.support.project import WRITES, Sandbox, git, script
from tests.support.runs import InProcess, InThread, processes_in, run


class Clone(Sandbox):
    """Another checkout of a sandbox's repository, on its store."""

    def __init__(self, box) -> None:
        self.root, self.url, self.settings = box.root.with_name("clone"), box.url, box.settings
        git(box.root, "clone", "-q", str(box.root), str(self.root))
        self._opened = []
        self.project = self.open()


@pytest.fixture
def clone_of():
    """A function: a clone of a sandbox."""
    made = []

    def clone(box):
        made.append(Clone(box))
        return made[-1]

    yield clone
    for each in made:
        each.close()


def human(**modes):
    return {role: RoleSettings(mode=modes.get(role, "auto"), id=role) for role in ("cto", "pm", "qa")}


def epochs(box):
    return {s["agent_id"]: s["epoch"] for s in sessions.listing(box.ctx)}


def test_a_second_run_is_refused_and_the_first_goes_on_undisturbed(both, clone_of):
    gate = both.root.parent / "go"
    agent = script(f"until [ -e {gate} ]; do sleep 0.05; done; echo x > {{story}}; git add .; git commit -qm x")
    both.set(agents=(agent,), run=Run(agents=2, max_attempts=1))
    both.wave(stories_=["S1", "S2"], start=False)
    clone = clone_of(both)
    first = InProcess(both)  # a run that ends takes the helper of its process with it, and so what that launched
    first.wait("agent", "S1"), first.wait("agent", "S2")
    while len([r for r in runs.open_runs(both.ctx) if r["pid"]]) < 2:
        time.sleep(0.01)
    before = epochs(both)
    for _ in range(2):
        with pytest.raises(Refused, match="another maf run works on this store") as refused:
            run(clone)
        assert "One `maf run` a store" in refused.value.hint
        assert "120 s" in refused.value.hint
    assert epochs(both) == before
    gate.touch()
    assert first.join() == 0, first.events
    assert [e for e in first.events if e["event"] in ("attempt", "trouble")] == []
    assert {both.show(code)["attempts"] for code in ("S1", "S2")} == {1}
    both.sound()
    clone.git("pull", "-q")
    assert run(clone).result  # once the first has ended, the other's turn


def test_what_another_checkout_left_is_its_own_to_clear(both, clone_of):
    """A killed run's leases hold for two minutes; then another takes over, and what is left stays with the first."""
    both.set(agents=(script("sleep 600"),), roles=human(qa=HUMAN), run=Run(agents=1))
    both.wave(stories_=["S1"], start=False)
    clone = clone_of(both)
    process = InProcess(both)
    process.wait("agent", "S1")
    while not [r for r in runs.open_runs(both.ctx) if r["pid"]]:
        time.sleep(0.01)
    process.kill()
    left = epochs(both)
    assert set(left) == {"cto", "pm", "dev-1"}
    with pytest.raises(Refused, match="another maf run"):
        run(clone)
    assert recovery.recover(clone.project) == []
    assert (epochs(both), len(runs.open_runs(both.ctx))) == (left, 1)
    both.set(agents=(WRITES,), roles=human())
    assert run(both).result  # the checkout itself need not wait
    assert runs.open_runs(both.ctx) == []
    assert processes_in(both.root) == []
    both.sound()


def test_two_that_begin_at_the_same_moment_do_not_both_go_on(both, clone_of, monkeypatch):
    """The second looks before the first has registered anybody, and registers after it."""
    both.set(agents=(WRITES,), roles=human(qa=HUMAN))
    both.wave(stories_=["S1"], start=False)
    clone, started = clone_of(both), []
    look = recovery.refuse_second

    def and_then_the_first_begins(project):
        look(project)
        if project.repo.root == clone.root and not started:
            started.append(InThread(both))
            started[0].wait("waiting", "maf qa pass S1")

    monkeypatch.setattr(recovery, "refuse_second", and_then_the_first_begins)
    with pytest.raises(Refused, match="another maf run works on this store"):
        Runner(clone.open, lambda _: None).run()
    assert set(epochs(both)) >= {"cto", "pm", "dev-1"}
    assert both.show("S1")["status"] == "qa_review"
    assert started[0].end() is False


def test_a_run_whose_place_was_taken_ends(both, clone_of):
    """One that slept through its leases: when it wakes, another has begun, and it does not take the roles back."""
    both.set(agents=(WRITES,), roles=human(qa=HUMAN))
    both.wave(stories_=["S1"], start=False)
    clone = clone_of(both)
    first = InThread(both)
    first.wait("waiting", "maf qa pass S1")
    maf = both.project.acting(lc.TOOL).ctx
    other = recovery.machine(clone.project)
    taken = [
        sessions.register(maf, role, role, vm=other, launched_by="runner", takeover=True) for role in ("cto", "pm")
    ]
    with pytest.raises(Refused, match="another maf run works on this store"):
        first.join()
    now = epochs(both)
    assert {s["agent_id"]: s["epoch"] for s in taken} == now
    both.sound()


def test_a_role_that_a_person_has_left_registered_is_taken_over(both):
    both.set(agents=(WRITES,))
    both.wave(stories_=["S1"], start=False)
    sessions.register(both.ctx, "pm", "pm", vm="a laptop")
    assert run(both).result
    both.sound()


def test_a_checkout_has_a_name_of_its_own(box, clone_of, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "h" * 200)
    clone = clone_of(box)
    names = {recovery.machine(p) for p in (box.project, box.open(), clone.project)}
    assert len(names) == 2
    assert all(name.startswith("h" * 80 + "/") and len(name) <= 100 for name in names)
