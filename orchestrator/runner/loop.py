"""The loop of ``maf run``: look, decide, start jobs, sleep until something happens.

The loop itself only does short writes. What takes long (worktrees, agents, checks, merges) happens in threads. It
holds nothing that matters in memory: killed at any point and started again, it decides the same from the store and the
repository.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import LostRace, MafError, NotFound, Refused, StoreUnavailable
from orchestrator.gates.project import Project
from orchestrator.process import shutdown
from orchestrator.runner import recovery
from orchestrator.runner.decisions import Decisions
from orchestrator.runner.desk import DEV, MERGE, QA, ROLE, Desk
from orchestrator.runner.dev_job import Attempt, still_holds
from orchestrator.runner.events import Report, one_line
from orchestrator.runner.slots import Slot
from orchestrator.runner.workers import Done
from orchestrator.service import invariants, runs, stories, waves

RENEW = 25.0
"""Seconds between renewals of the leases that the runner keeps; a quarter of the lease where that is shorter."""
SETTLE = 0.05
"""Seconds in which news from other connections is gathered into one look."""
AGAIN = 1.0
"""Seconds before the store, which could not be reached, is asked again."""
DONE, IDLE = "done", "idle"


class Runner:
    """One ``maf run``. ``until``: ``done`` (every wave has ended) or ``idle`` (nothing runs and nothing is due)."""

    def __init__(
        self, open_project: Callable[[], Project], report: Report, *, until: str = DONE, agents: int | None = None
    ) -> None:
        self._open_project = open_project
        self._until = until
        self.desk = Desk(open_project, report, agents)
        self._decisions = Decisions(self.desk)
        self._every = min(RENEW, self.desk.project.settings.ttl_runner / 4)
        self._renewed = time.monotonic()
        self._ends: deque[Done] = deque()
        self._watching = True

    # -- life ------------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Drive the waves to their end. True: all that ended is completed. Refused: another run is at it."""
        desk = self.desk
        descriptor = recovery.lock(desk.project)
        early = False
        watcher = threading.Thread(target=self._watch, name="maf-watch", daemon=True)
        try:
            recovery.refuse_second(desk.project)
            for line in recovery.recover(desk.project):
                desk.say("recovered", line)
            desk.keep_roles(runs.board(desk.project.ctx)["stops"])
            recovery.refuse_second(desk.project)  # one that began at the same moment, with other ids for its roles
            watcher.start()
            trouble = None
            while desk.ending is None:
                try:
                    if self._turn():
                        return self._finish()
                    trouble = None
                except StoreUnavailable as gone:
                    if gone.message != trouble:  # once an outage, not once a second
                        desk.say("trouble", f"{gone.message}; trying again until it is back")
                    trouble = gone.message
                    self._sleep(AGAIN)
            early = True
            desk.say("ending", "ending: agents get a few seconds; Ctrl-C again ends at once")
            return False
        finally:
            self._watching = False
            desk.children.stop_all("maf run ends")
            desk.workers.close(shutdown)  # checks that run are cut off, and judge nothing
            desk.end_sessions()  # a write of the store's: it wakes the watcher too
            if early:
                desk.say("ended", f"ended by {desk.ending}; `maf run` goes on where this stopped")
            if watcher.ident is not None:
                watcher.join(6.0)
            desk.project.ctx.store.close()
            desk.project.repo.close()
            os.close(descriptor)

    def end(self, why: str) -> None:
        """Ask the loop to end (from a signal handler): agents are ended, their stories given back."""
        self.desk.ending = why
        self.desk.workers.nudge()

    def _turn(self) -> bool:
        """Settle what has ended, look, and sleep where there was nothing to do. Whether all is over."""
        while self._ends:
            self._ended(self._ends[0])
            self._ends.popleft()
        if time.monotonic() >= self._renewed + self._every:
            self._renewed = time.monotonic()
            self.desk.renew()
        self.desk.pauses.expire()
        acted = self._look()
        if acted:
            self._sleep(0.0)
            return False
        if self._over():
            return True
        due = self.desk.pauses.pending()
        wake = min(self._renewed + self._every, due if due is not None else float("inf"))
        self._sleep(wake - time.monotonic())
        return False

    def _sleep(self, seconds: float) -> None:
        self._ends.extend(self.desk.workers.take(seconds))

    def _watch(self) -> None:
        """Wake the loop when another process (or a job) has committed something."""
        while self._watching:
            with suppress(MafError), self._open_project().ctx.store as store:
                store.engine.prepare_wait()
                while self._watching:
                    if store.engine.wait(5.0):
                        store.engine.prepare_wait()
                        self.desk.workers.nudge()
                        time.sleep(SETTLE)
            if self._watching:
                time.sleep(AGAIN)  # the store is gone: until it is back, the loop looks at every renewal

    def _look(self) -> bool:
        """Do everything that can be done now. Whether anything was."""
        desk = self.desk
        board = runs.board(desk.project.ctx)
        stops = board["stops"]
        desk.drop_ended(board["sessions"])
        if everything := [s for s in stops if s["scope"] == "all"]:
            desk.warn("stop", f"everything is stopped: {everything[0]['reason']}; `maf resume` lifts it")
            return False
        try:
            desk.keep_roles(stops)
            return self._decisions.act(board)
        except LostRace:
            self._sleep(SETTLE)  # a session of ours has ended, or somebody was faster: look again
            return True

    def _over(self) -> bool:
        """Whether the work is over."""
        desk = self.desk
        if self._ends or desk.workers.running or desk.pauses.pending() is not None:
            return False
        if self._until == IDLE:
            return True
        every = {wave["wave_code"]: wave for wave in waves.listing(desk.project.ctx)}
        stuck = behind = {code for code, wave in every.items() if wave["status"] == lc.WaveStatus.FAILED}
        while behind:  # a wave that waits for a failed one is over too, unless somebody retries that
            behind = {
                code for code, wave in every.items()
                if wave["status"] == lc.WaveStatus.PLANNING and code not in stuck and stuck & set(wave["after"])
            }  # fmt: skip
            stuck = stuck | behind
        return all(code in stuck or wave["status"] == lc.WaveStatus.COMPLETED for code, wave in every.items())

    def _finish(self) -> bool:
        every = waves.listing(self.desk.project.ctx)
        failed = [w["wave_code"] for w in every if w["status"] == lc.WaveStatus.FAILED or w["failed"]]
        done = sum(1 for w in every if w["status"] == lc.WaveStatus.COMPLETED)
        noun = "wave" if len(every) == 1 else "waves"
        said = f"{done} of {len(every)} {noun} completed" + (f", failed: {', '.join(failed)}" if failed else "")
        sound = self._sound()
        self.desk.say("finished", said)
        return sound and not failed

    def _sound(self) -> bool:
        """Whether all that was merged is still there, and the store as it should be; what is not is said."""
        project = self.desk.project
        results = invariants.check(project.ctx, project.repo, project.settings.target, replay=False)
        broken = {result.number: result.title for result in invariants.failed(results)}
        for number, title in broken.items():
            self.desk.say("trouble", f"invariant {number} does not hold ({title}): see `maf doctor`", invariant=number)
        return not broken

    # -- what has ended --------------------------------------------------------------------------------------------

    def _ended(self, done: Done) -> None:
        kind, name = done.key
        if kind == DEV:
            slot = next((s for s in self.desk.slots.slots if s.busy == name), None)
            if slot is not None:
                self._dev_ended(name, slot, done)
                slot.end()
            return
        code = name.split()[-1]
        if kind == ROLE:
            for slot in self.desk.slots.slots:
                slot.promised = None if slot.promised == code else slot.promised
        if done.error is not None:
            self._went_wrong(kind, name, code, done.error)
            return
        self.desk.pauses.forget(kind, name)
        if kind == MERGE:
            self.desk.say("merged", f"{name} is merged as {done.result['commit'][:12]}", story=name)
            checkout = done.result["checkout"]
            if checkout["kind"] == "left":
                said = f"{checkout['path']} is left as it is: {checkout['reason']}. {checkout['hint'] or ''}".strip()
                self.desk.warn(f"left {checkout['path']}", said)
        elif kind == QA:
            passed = done.result["status"] != lc.StoryStatus.IN_PROGRESS
            self.desk.say("qa", f"{name} {'passed QA' if passed else 'was rejected by QA'}", story=name)

    def _went_wrong(self, kind: str, name: str, code: str, error: BaseException) -> None:
        """A refusal that moved the story is the workflow's own answer; all else is tried again after a pause."""
        if isinstance(error, MafError):
            text = error.message.splitlines()[0]
        else:
            text = f"{kind} of {name}: {type(error).__name__}: {error}"
        if kind == ROLE or self._still_waits(kind, code):
            self.desk.pauses.put_off(kind, name)
        expected = isinstance(error, Refused | LostRace)
        self.desk.say(kind if expected else "trouble", text, story=code)

    def _still_waits(self, kind: str, code: str) -> bool:
        """Whether the story stands where the job found it."""
        status = {QA: lc.StoryStatus.QA_REVIEW, MERGE: lc.StoryStatus.PM_REVIEW}[kind]
        try:
            return bool(stories.show(self.desk.project.ctx, code)["status"] == status)
        except NotFound:
            return False

    def _dev_ended(self, code: str, slot: Slot, done: Done) -> None:
        desk, result, error = self.desk, done.result, done.error
        if isinstance(result, Attempt) and result.handed_on:
            desk.pauses.forget(DEV, code)
            said = f"{slot.agent} submitted {code}"
            desk.say("submitted", said, story=code, agent=slot.agent, **result.details)
            return
        if isinstance(result, Attempt):
            why, facts = result.why, result.details
        else:
            why, facts = error.message if isinstance(error, MafError) else f"{type(error).__name__}: {error}", {}
        gone = isinstance(error, LostRace) or not desk.beat(slot.session)
        if not gone and still_holds(desk.project, code, slot.agent, slot.token):
            with suppress(Refused):
                stories.release(desk.maf.ctx, code, reason=f"{slot.agent}: {why}"[:4000])
        desk.slots.failed_last[code] = slot.agent
        desk.say("attempt", f"{slot.agent} on {code}: {one_line(why)}", story=code, agent=slot.agent, **facts)
        if not gone or isinstance(result, Attempt):
            desk.pauses.put_off(DEV, code)
        if not isinstance(result, Attempt) and not gone and not isinstance(error, StoreUnavailable):
            desk.slots.unlaunched[code] += 1
