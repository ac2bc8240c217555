"""The loop of ``maf run``: look, decide, start jobs, sleep until something happens.

The loop itself only does short writes: approving, assigning, accepting, giving back. What takes long (worktrees,
agents, checks, merges) happens in threads. It holds nothing that matters in memory: killed at any point and started again, it
decides the same from the store and the repository.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GuardFailed, LostRace, MafError, NotFound, Refused, StoreUnavailable
from orchestrator.domain.planning import critical_path, ready_order
from orchestrator.domain.settings import AGENT, AUTO, HUMAN
from orchestrator.gates import integration, qa
from orchestrator.gates.project import Project
from orchestrator.runner import recovery
from orchestrator.runner.dev_job import Attempt, attempt, beat, still_holds
from orchestrator.runner.events import Event, Report
from orchestrator.runner.launch import Children
from orchestrator.runner.role_job import RoleTask, work_role
from orchestrator.runner.slots import Slots
from orchestrator.runner.workers import Done, Workers
from orchestrator.service import reviews, runs, sessions, stories, waves
from orchestrator.service.stops import covers
from orchestrator.store import Row

RENEW = 25.0
"""Seconds between renewals of the leases that the runner keeps; well within the runner's TTL of 120 s."""
SETTLE = 0.05
"""Seconds in which news from other connections is gathered into one look."""
DONE, IDLE = "done", "idle"
_QA, _MERGE, _DEV, _ROLE = "qa", "merge", "dev", "role"


class Runner:
    """One ``maf run``. ``until``: ``done`` (every wave has ended) or ``idle`` (nothing runs and nothing is due)."""

    def __init__(
        self, open_project: Callable[[], Project], report: Report, *, until: str = DONE, agents: int | None = None
    ) -> None:
        self.project = open_project()
        self._open_project = open_project
        settings = self.project.settings
        self._until = until
        self._report = report
        limit = agents or settings.run.agents
        self._checks_at_once = max(2, os.cpu_count() or 2)
        self.workers = Workers(open_project, limit + self._checks_at_once + 4)
        self.children = Children()
        self.slots = Slots(settings.agents, limit, recovery.machine())
        self.roles: dict[str, Row] = {}
        self._not_before: dict[tuple[str, str], float] = {}
        self._tries: dict[tuple[str, str], int] = {}
        self._warned: set[str] = set()
        self._failed_last: dict[str, str] = {}
        self._ending: str | None = None
        self._renewed = time.monotonic()
        self._watching = True

    # -- life ------------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Drive the waves to their end. True: every wave that ended is completed."""
        descriptor = recovery.lock(self.project)
        watcher = threading.Thread(target=self._watch, name="maf-watch", daemon=True)
        try:
            for line in recovery.recover(self.project):
                self._say("recovered", line)
            self._keep_roles()
            watcher.start()
            while self._ending is None:
                acted = self._look()
                if self._over(acted):
                    break
                self._sleep()
            return self._finish()
        finally:
            self._watching = False
            self.children.stop_all("maf run ends")
            self.workers.close()
            self._end_sessions()
            os.close(descriptor)

    def end(self, why: str) -> None:
        """Ask the loop to end (from a signal handler): agents are ended, their stories given back."""
        self._ending = why
        self.workers.nudge()

    def handle_signals(self) -> None:
        """End in good order on SIGINT and SIGTERM."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda n, _: self.end(signal.Signals(n).name))

    def _watch(self) -> None:
        """Wake the loop when another process (or a job) has committed something."""
        try:
            with self._open_project().ctx.store as store:
                store.engine.prepare_wait()
                while self._watching:
                    if store.engine.wait(5.0):
                        store.engine.prepare_wait()
                        self.workers.nudge()
                        time.sleep(SETTLE)
        except MafError:
            return  # the loop looks by itself at every renewal

    def _sleep(self) -> None:
        now = time.monotonic()
        due = [t for t in self._not_before.values() if t > now]
        wake = min([self._renewed + RENEW, *due])
        for done in self.workers.take(max(0.0, wake - now)):
            self._ended(done)
        if time.monotonic() >= self._renewed + RENEW:
            self._renew()

    def _finish(self) -> bool:
        with self.project.ctx.store.read() as reader:
            every = reader.all("wave.list")
        failed = [w["wave_code"] for w in every if w["status"] == lc.WaveStatus.FAILED or w["failed"]]
        if self._ending:
            self._say("ended", f"ended by {self._ending}; `maf run` goes on where this stopped")
            return False
        done = sum(1 for w in every if w["status"] == lc.WaveStatus.COMPLETED)
        self._say(
            "finished", f"{done} of {len(every)} waves completed" + (f", failed: {', '.join(failed)}" if failed else "")
        )
        return not failed

    def _end_sessions(self) -> None:
        maf = self.project.acting(lc.TOOL)
        mine = {slot.agent for slot in self.slots.slots} | {s["agent_id"] for s in self.roles.values()}
        with suppress(MafError):
            for session in sessions.listing(maf.ctx):
                if session["agent_id"] in mine and session["launched_by"] == "runner":
                    recovery.end(maf, session, f"maf run ended{f' by {self._ending}' if self._ending else ''}")
        self.project.ctx.store.close()

    def _say(self, kind: str, text: str, *, story: str | None = None, agent: str | None = None, **details: Any) -> None:
        self._report(Event(kind, text, self.project.ctx.store.now(), story, agent, details))

    def _warn(self, key: str, text: str, **about: Any) -> None:
        """Say something once."""
        if key not in self._warned:
            self._warned.add(key)
            self._say("waiting", text, **about)

    # -- sessions --------------------------------------------------------------------------------------------------

    def _keep_roles(self) -> None:
        """Register the sessions of the roles that are maf's own or an agent's; a person's are the person's."""
        for role, settings in self.project.settings.roles.items():
            if settings.mode == HUMAN or role in self.roles:
                continue
            self.roles[role] = sessions.register(
                self.project.acting(lc.TOOL).ctx,
                settings.id,
                role,
                vm=self.slots.vm,
                launched_by="runner",
                takeover=True,
            )

    def _renew(self) -> None:
        self._renewed = time.monotonic()
        for role, session in list(self.roles.items()):
            if not beat(self.project, session):
                del self.roles[role]
        for slot in list(self.slots.slots):
            if not beat(self.project, slot.session):
                self.children.stop(slot.agent, "its session has ended")
                if slot.busy is None:
                    self.slots.slots.remove(slot)

    def _as(self, role: str) -> Project:
        session = self.roles[role]
        return self.project.acting(session["agent_id"], epoch=session["epoch"])

    def _mode(self, role: str) -> str:
        return self.project.settings.roles[role].mode

    # -- one look --------------------------------------------------------------------------------------------------

    def _look(self) -> bool:
        """Do everything that can be done now. Whether anything was."""
        try:
            board = runs.board(self.project.ctx)
            if self._stopped_all(board["stops"]):
                return False
            self._keep_roles()
            return self._act(board)
        except LostRace:
            self._renew()  # a session of ours has ended, or somebody was faster: look again
            self._keep_roles()
            return True
        except StoreUnavailable as gone:
            self._say("trouble", f"{gone.message}; trying again")
            time.sleep(1.0)
            return True

    def _stopped_all(self, stops: list[Row]) -> bool:
        if stops:
            self._renew()  # ends the processes of agents whose sessions a stop has ended
        if any(s["scope"] == "all" for s in stops):
            self._warn(f"stop{stops[0]['id']}", f"everything is stopped: {stops[0]['reason']}; `maf resume` lifts it")
            self.roles = {r: s for r, s in self.roles.items() if beat(self.project, s)}
            return True
        return False

    def _act(self, board: dict[str, list[Row]]) -> bool:
        acted = False
        if self._mode(lc.Role.PM) != HUMAN:
            for wave in board["startable"]:
                waves.start(self.project.acting(lc.TOOL).ctx, wave["wave_code"])
                self._say("wave", f"wave {wave['wave_code']} starts")
                acted = True
        by_status: dict[str, list[Row]] = {}
        for story in board["stories"]:
            by_status.setdefault(story["status"], []).append(story)
        acted |= self._approve(by_status.get(lc.StoryStatus.BACKLOG, []))
        active = [s for s in board["stories"] if s["wave_status"] == lc.WaveStatus.ACTIVE]
        held = [s for s in active if s["status"] in lc.HELD_STORIES]
        acted |= self._judge([s for s in active if s["status"] == lc.StoryStatus.QA_REVIEW])
        review = [s for s in active if s["status"] == lc.StoryStatus.PM_REVIEW]
        acted |= self._accept([s for s in review if s["current_gate"] == 5])
        acted |= self._merge([s for s in review if s["current_gate"] in (6, 7)])
        acted |= self._work_held(held)
        ready = [s for s in active if s["status"] == lc.StoryStatus.READY]
        acted |= self._assign(ready, board)
        return acted

    def _approve(self, backlog: list[Row]) -> bool:
        acted = False
        for story in backlog:
            code = story["story_code"]
            if self._mode(lc.Role.CTO) == AUTO:
                try:
                    stories.approve(self._as(lc.Role.CTO).ctx, code, policy="auto: title, domain and criteria stand")
                    acted = True
                except GuardFailed as refused:
                    self._warn(f"approve {code}", f"{code} waits: {refused.message}", story=code)
            elif self._mode(lc.Role.CTO) == AGENT:
                acted |= self._role(lc.Role.CTO, "approve", code)
            else:
                self._warn(f"approve {code}", f"{code} waits for `maf story approve {code}`", story=code)
        return acted

    def _judge(self, review: list[Row]) -> bool:
        acted = False
        for story in sorted(review, key=lambda s: s["first_submitted_at"] or ""):
            code = story["story_code"]
            if self._mode(lc.Role.QA) == AGENT:
                acted |= self._role(lc.Role.QA, "judge", code)
            elif self._mode(lc.Role.QA) == HUMAN:
                self._warn(f"qa {code} {story['fencing_token']}", f"{code} waits for `maf qa pass {code}`", story=code)
            elif self.workers.count(_QA) < self._checks_at_once and self._due(_QA, code):
                me = self._as(lc.Role.QA).ctx
                self.workers.start(
                    _QA,
                    code,
                    lambda p, c=code, m=me: qa.decide(p.acting(m.agent, epoch=m.epoch), c),  # type: ignore[misc]
                )
                acted = True
        return acted

    def _accept(self, review: list[Row]) -> bool:
        acted = False
        for story in review:
            code = story["story_code"]
            if self._mode(lc.Role.PM) == AUTO:
                reviews.accept(self._as(lc.Role.PM).ctx, code, policy="auto: QA passed")
                acted = True
            elif self._mode(lc.Role.PM) == AGENT:
                acted |= self._role(lc.Role.PM, "review", code)
            else:
                self._warn(f"accept {code}", f"{code} waits for `maf review accept {code}`", story=code)
        return acted

    def _merge(self, queue: list[Row]) -> bool:
        """One at a time, oldest first."""
        queue.sort(key=lambda s: (s["first_submitted_at"] or "", s["story_code"]))
        for story in queue:
            code = story["story_code"]
            if self._mode(lc.Role.CTO) == HUMAN:
                self._warn(f"merge {code} {story['fencing_token']}", f"{code} waits for `maf merge {code}`", story=code)
            elif self._mode(lc.Role.CTO) == AGENT:
                if self._role(lc.Role.CTO, "merge", code):
                    return True
            elif not self.workers.busy(_MERGE) and self._due(_MERGE, code):
                me = self._as(lc.Role.CTO).ctx
                self.workers.start(
                    _MERGE,
                    code,
                    lambda p, c=code, m=me: integration.merge(p.acting(m.agent, epoch=m.epoch), c),  # type: ignore[misc]
                )
                return True
        return False

    def _work_held(self, held: list[Row]) -> bool:
        """Go on with stories that came back to a dev of ours, or that a person has assigned to one."""
        acted = False
        for story in held:
            slot = self.slots.of(story["assigned_agent"])
            if slot is not None and slot.busy is None and self.slots.running() < self.slots.limit:
                self._launch(story, slot)
                acted = True
        return acted

    def _assign(self, ready: list[Row], board: dict[str, list[Row]]) -> bool:
        waiting: dict[str, list[str]] = {}
        for edge in board["edges"]:
            waiting.setdefault(edge["code"], []).append(edge["after"])
        open_ = {e["code"] for e in board["edges"] if e["after_status"] != lc.StoryStatus.COMPLETED}
        free = [s for s in ready if s["story_code"] not in open_ and self._due(_DEV, s["story_code"])]
        if self._mode(lc.Role.PM) == HUMAN:
            for story in free:
                code = story["story_code"]
                self._warn(f"assign {code}", f"{code} waits for `maf story assign {code}`", story=code)
                self.slots.free_for(self.project, story["domain"], board["stops"])  # so that there is a dev to name
            return False
        weight = {s["story_code"]: max(1, s["story_points"] or 1) for s in board["stories"]}
        path = critical_path({code: waiting.get(code, []) for code in weight}, weight)
        free.sort(key=lambda s: ready_order(s["priority"] or 1, path.get(s["story_code"], 0), s["story_code"]))
        acted = False
        for story in free:
            if any(covers(s, domain=story["domain"], wave=story["wave_code"]) for s in board["stops"]):
                continue
            if self.slots.running() >= self.slots.limit:
                break
            code = story["story_code"]
            if self._attempts_over(code):
                acted = True
                continue
            slot = self.slots.free_for(
                self.project, story["domain"], board["stops"], rather_not=self._failed_last.get(code)
            )
            if slot is None:
                if not any(k.domain in (None, story["domain"]) for k in self.slots.kinds):
                    text = f"{code} waits: no [[agents]] in maf.toml works in the domain {story['domain']!r}"
                    self._warn(f"nobody {story['domain']}", text, story=code)
                continue
            if self._mode(lc.Role.PM) == AGENT:
                acted |= self._role(lc.Role.PM, "assign", code, to=slot.agent)
                continue
            assigned = stories.assign(self._as(lc.Role.PM).ctx, code, slot.agent)
            self._launch(assigned, slot)
            acted = True
        return acted

    def _launch(self, story: Row, slot: Any) -> None:
        code, token = story["story_code"], story["fencing_token"]
        if self._attempts_over(code):
            return
        slot.busy = code
        session, kind, children, vm = slot.session, slot.kind, self.children, self.slots.vm
        self._say("agent", f"{slot.agent} works on {code}", story=code, agent=slot.agent)
        self.workers.start(_DEV, code, lambda p: attempt(p, code, kind, session, token, children, vm))

    def _attempts_over(self, code: str) -> bool:
        """Fail a story that has had its attempts."""
        allowed = self.project.settings.run.max_attempts
        unstarted = self._tries.get((_DEV, code), 0)
        if unstarted < allowed and runs.attempts_left(self.project.ctx, code, allowed) > 0:
            return False
        self._tries.pop((_DEV, code), None)
        last = runs.last_words(self.project.ctx, code)
        why = f"no attempt is left of {allowed}; the last one: {last}"
        with suppress(Refused, NotFound):
            stories.fail(self.project.acting(lc.TOOL).ctx, code, reason=why[:4000])
            self._say("failed", f"{code} failed: {why}", story=code)
        return True

    def _role(self, role: str, what: str, code: str, to: str | None = None) -> bool:
        """Launch a role's agent for one decision, unless it is at it, or has failed to take it too often."""
        key = (role, f"{what} {code}")
        if self.workers.busy(_ROLE, f"{role} {what} {code}") or self.workers.count(_ROLE) >= 4 or not self._due(*key):
            return False
        if self._tries.get(key, 0) >= self.project.settings.run.max_attempts:
            self._warn(f"role {key}", f"{code} waits: the {role} agent did not {what} it; decide by hand", story=code)
            return False
        self._tries[key] = self._tries.get(key, 0) + 1
        task = RoleTask(role, what, code, self.roles[role], to)
        children, vm = self.children, self.slots.vm
        self.workers.start(_ROLE, f"{role} {what} {code}", lambda p: work_role(p, task, children, vm))
        return True

    # -- what has ended --------------------------------------------------------------------------------------------

    def _ended(self, done: Done) -> None:
        kind, name = done.key
        if kind == _DEV:
            slot = next((s for s in self.slots.slots if s.busy == name), None)
            if slot is not None:
                slot.busy = None
                self._dev_ended(name, slot, done)
            return
        if isinstance(done.error, MafError):
            # A refusal is the workflow's own answer (sent back, somebody was faster); trouble is tried again later.
            trouble = isinstance(done.error, StoreUnavailable)
            if trouble or kind == _ROLE:
                self._delay(kind, name)
            self._say("trouble" if trouble else kind, done.error.message.splitlines()[0], story=name.split()[-1])
            if isinstance(done.error, LostRace):
                self._renew()
        elif done.error is not None:
            self._delay(kind, name)
            self._say("trouble", f"{kind} of {name}: {type(done.error).__name__}: {done.error}", story=name.split()[-1])
        elif kind == _MERGE:
            self._say("merged", f"{name} is merged as {done.result['commit'][:12]}", story=name)
            checkout = done.result["checkout"]
            if checkout["kind"] == "left":
                self._warn(
                    f"left {checkout['reason']}",
                    f"{checkout['path']} is left as it is: {checkout['reason']}. {checkout['hint'] or ''}".strip(),
                )
        elif kind == _QA:
            passed = done.result["status"] == lc.StoryStatus.PM_REVIEW
            self._say("qa", f"{name} {'passed QA' if passed else 'was rejected by QA'}", story=name)

    def _dev_ended(self, code: str, slot: Any, done: Done) -> None:
        result = done.result
        if isinstance(result, Attempt) and result.handed_on:
            self._say("submitted", f"{slot.agent} submitted {code}", story=code, agent=slot.agent, **result.details)
            return
        if isinstance(result, Attempt):
            why, facts = result.why, result.details
        else:
            why = (
                done.error.message if isinstance(done.error, MafError) else f"{type(done.error).__name__}: {done.error}"
            )
            facts = {}
        ended = isinstance(done.error, LostRace) or not beat(self.project, slot.session)
        if ended and slot in self.slots.slots:
            self.slots.slots.remove(slot)
        self._failed_last[code] = slot.agent
        self._say("attempt", f"{slot.agent} on {code}: {why.splitlines()[0]}", story=code, agent=slot.agent, **facts)
        if self._ending is None:
            self._delay(_DEV, code)
            if not isinstance(result, Attempt) and not ended:
                self._tries[_DEV, code] = self._tries.get((_DEV, code), 0) + 1
        with suppress(MafError):
            if still_holds(self.project, code, slot.agent, self._token(code)):
                stories.release(self.project.acting(lc.TOOL).ctx, code, reason=f"{slot.agent}: {why}"[:4000])

    def _token(self, code: str) -> int:
        return int(stories.show(self.project.ctx, code)["fencing_token"])

    def _delay(self, kind: str, name: str) -> None:
        """Try again after a pause that doubles."""
        run = self.project.settings.run
        count = self._tries.get((f"delay {kind}", name), 0)
        self._tries[f"delay {kind}", name] = count + 1
        self._not_before[kind, name] = time.monotonic() + min(run.backoff_max, run.backoff * 2**count)

    def _due(self, kind: str, name: str) -> bool:
        if self.workers.busy(kind, name):
            return False
        return self._not_before.get((kind, name), 0.0) <= time.monotonic()

    def _over(self, acted: bool) -> bool:
        """Whether the work is over."""
        if acted or self.workers.running or any(t > time.monotonic() for t in self._not_before.values()):
            return False
        return self._until == IDLE or not runs.board(self.project.ctx)["waves"]
