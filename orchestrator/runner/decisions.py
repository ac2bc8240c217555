"""The automatic PM, QA and CTO: what to do with each story now, from one look at the board.

Each decision stands alone. One that is refused (somebody was faster, a guard does not hold) is said once and looked at
again when something has changed; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GateFailed, NotFound, Refused
from orchestrator.domain.planning import critical_path, ready_order
from orchestrator.domain.settings import AGENT, AUTO, HUMAN
from orchestrator.gates import integration, qa
from orchestrator.gates import review as gate_5
from orchestrator.gates.project import Project
from orchestrator.runner.desk import DEV, MERGE, QA, ROLE, ROLE_JOBS, Desk
from orchestrator.runner.dev_job import attempt
from orchestrator.runner.events import one_line
from orchestrator.runner.role_job import RoleTask, work_role
from orchestrator.runner.slots import Slot
from orchestrator.service import runs, stories, waves
from orchestrator.service.stops import covers
from orchestrator.store import Row

Board = dict[str, list[Row]]
PATIENCE = 2
"""After so many merge conflicts, younger stories let one pass."""


class Decisions:
    """Short writes and the start of jobs; never anything that takes long."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def act(self, board: Board) -> bool:
        """Do everything that can be done now. Whether anything was."""
        stops = board["stops"]
        acted = False
        for wave in board["startable"]:
            code, mode = wave["wave_code"], self._mode(lc.Role.PM)
            if mode == HUMAN:
                self._desk.warn(f"start {code}", f"{code} waits for `maf wave start {code}`")
            elif mode is not None and not any(covers(s, wave=code) for s in stops):
                acted |= self._decide(f"start {code}", f"wave {code}", partial(self._start, code))
        free = [s for s in board["stories"] if not any(_covered(stop, s) for stop in stops)]
        active = [s for s in free if s["wave_status"] == lc.WaveStatus.ACTIVE]
        review = [s for s in active if s["status"] == lc.StoryStatus.PM_REVIEW]
        acted |= self._approve([s for s in free if s["status"] == lc.StoryStatus.BACKLOG])
        acted |= self._judge([s for s in active if s["status"] == lc.StoryStatus.QA_REVIEW])
        acted |= self._accept([s for s in review if s["current_gate"] == 5])
        acted |= self._merge([s for s in review if s["current_gate"] in (6, 7)], self._held_up(active))
        acted |= self._work_held([s for s in active if s["status"] in lc.HELD_STORIES])
        acted |= self._assign([s for s in active if s["status"] == lc.StoryStatus.READY], board)
        return acted

    def _decide(self, key: str, subject: str, work: Callable[[], object]) -> bool:
        """Take one decision; False where it was refused."""
        try:
            work()
        except (Refused, NotFound) as refused:
            self._desk.warn(key, " ".join(filter(None, (f"{subject} waits: {refused.message}.", refused.hint))))
            return False
        return True

    def _mode(self, role: str) -> str | None:
        """Who plays a role now; None while its agent is stopped."""
        mode = self._desk.mode(role)
        return mode if mode == HUMAN or role in self._desk.roles else None

    # -- the PM ----------------------------------------------------------------------------------------------------

    def _start(self, wave: str) -> None:
        by = self._desk.acting(lc.Role.PM) if self._mode(lc.Role.PM) == AUTO else self._desk.maf
        waves.start(by.ctx, wave)
        self._desk.say("wave", f"wave {wave} starts")

    def _accept(self, review: list[Row]) -> bool:
        acted = False
        for story in review:
            code, mode = story["story_code"], self._mode(lc.Role.PM)
            if mode == AUTO:
                acted |= self._decide(f"accept {code}", code, partial(self._accept_one, code))
            elif mode == AGENT:
                acted |= self._role(lc.Role.PM, "review", code)
            elif mode == HUMAN:
                self._desk.warn(f"accept {code}", f"{code} waits for `maf review accept {code}`", story=code)
        return acted

    def _accept_one(self, code: str) -> None:
        try:
            gate_5.accept(self._desk.acting(lc.Role.PM), code, policy="auto: QA passed")
        except GateFailed as moved:  # and it has been returned
            self._desk.say("review", moved.message, story=code)

    def _assign(self, ready: list[Row], board: Board) -> bool:
        desk, acted = self._desk, False
        for story in _in_order(ready, board):
            code, domain = story["story_code"], story["domain"]
            if desk.workers.busy(DEV, code) or not desk.pauses.due(DEV, code):
                continue
            if self._mode(lc.Role.PM) == HUMAN:
                self._free(story, board["stops"])  # so that there is a dev to name
                desk.warn(f"assign {code}", f"{code} waits for `maf story assign {code} --to DEV`", story=code)
                continue
            if desk.slots.running() >= desk.slots.limit or self._mode(lc.Role.PM) is None:
                break
            if self._attempts_over(code):
                acted = True
                continue
            slot = self._free(story, board["stops"])
            if slot is None:
                if not any(kind.domain in (None, domain) for kind in desk.slots.kinds):
                    text = f"{code} waits: no [[agents]] in maf.toml works in the domain {domain!r}"
                    desk.warn(f"nobody {domain}", text, story=code)
                continue
            if self._mode(lc.Role.PM) == AGENT:
                acted |= self._role(lc.Role.PM, "assign", code, slot)
            else:
                acted |= self._decide(f"assign {code}", code, partial(self._give, code, slot))
        return acted

    def _free(self, story: Row, stops: list[Row]) -> Slot | None:
        try:
            return self._desk.slots.free_for(self._desk.project, story["story_code"], story["domain"], stops)
        except Refused as refused:
            self._desk.warn(f"nobody {story['domain']}", f"{story['story_code']} waits: {refused.message}")
            return None

    def _give(self, code: str, slot: Slot) -> None:
        assigned = stories.assign(self._desk.acting(lc.Role.PM).ctx, code, slot.agent)
        self._launch(assigned, slot)

    def _work_held(self, held: list[Row]) -> bool:
        """Go on with stories that came back to a dev of ours, or that a person has assigned to one."""
        desk, acted = self._desk, False
        for story in held:
            slot, code = desk.slots.of(story["assigned_agent"]), story["story_code"]
            if slot is None or slot.busy or desk.workers.busy(DEV, code) or not desk.pauses.due(DEV, code):
                continue
            if self._attempts_over(code):
                acted = True
            elif desk.slots.running() < desk.slots.limit:
                self._launch(story, slot)
                acted = True
        return acted

    def _launch(self, story: Row, slot: Slot) -> None:
        desk, code, token = self._desk, story["story_code"], story["fencing_token"]
        slot.begin(code, token)
        desk.say("agent", f"{slot.agent} works on {code}", story=code, agent=slot.agent)
        session, kind, children, vm = slot.session, slot.kind, desk.children, desk.slots.vm
        desk.workers.start(DEV, code, lambda p: attempt(p, code, kind, session, token, children, vm))

    def _attempts_over(self, code: str) -> bool:
        """Fail a story that has had its attempts; those count as well in which no process could be launched."""
        desk = self._desk
        allowed = desk.project.settings.run.max_attempts
        if desk.slots.unlaunched[code] < allowed and runs.attempts_left(desk.project.ctx, code, allowed) > 0:
            return False
        del desk.slots.unlaunched[code]
        desk.pauses.forget(DEV, code)
        why = f"no attempt is left of {allowed}; the last one: {runs.last_words(desk.project.ctx, code)}"
        with suppress(Refused, NotFound):
            stories.fail(desk.maf.ctx, code, reason=why[:4000])
            desk.say("failed", f"{code} failed: {one_line(why)}", story=code, reason=why)
        return True

    # -- QA --------------------------------------------------------------------------------------------------------

    def _judge(self, review: list[Row]) -> bool:
        desk, acted = self._desk, False
        for story in sorted(review, key=_age):
            code, mode = story["story_code"], self._mode(lc.Role.QA)
            if mode == AGENT:
                acted |= self._role(lc.Role.QA, "judge", code)
            elif mode == HUMAN:
                desk.warn(f"qa {code} {story['fencing_token']}", f"{code} waits for `maf qa pass {code}`", story=code)
            elif mode == AUTO and desk.workers.count(QA) < desk.checks_at_once and self._may_begin(QA, code):
                self._job(QA, code, desk.acting(lc.Role.QA), qa.decide)
                acted = True
        return acted

    # -- the CTO ---------------------------------------------------------------------------------------------------

    def _approve(self, backlog: list[Row]) -> bool:
        acted = False
        for story in backlog:
            code, mode = story["story_code"], self._mode(lc.Role.CTO)
            if mode == AUTO:
                policy = "auto: title, domain and criteria stand"
                approve = partial(stories.approve, self._desk.acting(lc.Role.CTO).ctx, code, policy=policy)
                acted |= self._decide(f"approve {code}", code, approve)
            elif mode == AGENT:
                acted |= self._role(lc.Role.CTO, "approve", code)
            elif mode == HUMAN:
                self._desk.warn(f"approve {code}", f"{code} waits for `maf story approve {code}`", story=code)
        return acted

    def _held_up(self, active: list[Row]) -> tuple[str, str] | None:
        """The age of the oldest story that others have kept from its merge too often, and that is on its way again.

        None while a person is what it waits for: then nobody else has to wait too.
        """
        if HUMAN in (self._mode(lc.Role.QA), self._mode(lc.Role.PM)):
            return None
        review = {lc.StoryStatus.QA_REVIEW, lc.StoryStatus.PM_REVIEW}
        ours = {slot.agent for slot in self._desk.slots.slots}
        often = [s for s in active if s["conflicts"] >= PATIENCE]
        coming = [s for s in often if s["status"] in review or s["assigned_agent"] in ours]
        return min((_age(s) for s in coming), default=None)

    def _merge(self, queue: list[Row], first: tuple[str, str] | None) -> bool:
        """One at a time, oldest first; none that is younger than ``first``, so that nobody starves."""
        desk = self._desk
        for story in sorted(queue, key=_age):
            if first is not None and _age(story) > first:
                break
            code, mode = story["story_code"], self._mode(lc.Role.CTO)
            if mode == HUMAN:
                desk.warn(f"merge {code} {story['fencing_token']}", f"{code} waits for `maf merge {code}`", story=code)
            elif mode == AGENT:
                if self._role(lc.Role.CTO, "merge", code):
                    return True
            elif mode == AUTO and not desk.workers.busy(MERGE) and self._may_begin(MERGE, code):
                self._job(MERGE, code, desk.acting(lc.Role.CTO), integration.merge)
                return True
        return False

    # -- jobs ------------------------------------------------------------------------------------------------------

    def _may_begin(self, kind: str, code: str) -> bool:
        return not self._desk.workers.busy(kind, code) and self._desk.pauses.due(kind, code)

    def _job(self, kind: str, code: str, who: Project, work: Callable[[Project, str], Any]) -> None:
        agent, epoch = who.ctx.agent, who.ctx.epoch
        self._desk.workers.start(kind, code, lambda p: work(p.acting(agent, epoch=epoch), code))

    def _role(self, role: str, what: str, code: str, slot: Slot | None = None) -> bool:
        """Launch a role's agent for one decision, unless it is at it, or has failed to take it too often."""
        desk, name = self._desk, f"{role} {what} {code}"
        if desk.workers.count(ROLE) >= ROLE_JOBS or not self._may_begin(ROLE, name):
            return False
        if desk.pauses.times[ROLE, name] >= desk.project.settings.run.max_attempts:
            desk.warn(name, f"{code} waits: the {role} agent did not {what} it; decide by hand", story=code)
            return False
        if slot is not None:
            slot.promised = code
        task = RoleTask(role, what, code, desk.roles[role], slot.agent if slot else None)
        children, vm = desk.children, desk.slots.vm
        desk.workers.start(ROLE, name, lambda p: work_role(p, task, children, vm))
        return True


def _covered(stop: Row, story: Row) -> bool:
    return covers(stop, domain=story["domain"], wave=story["wave_code"])


def _age(story: Row) -> tuple[str, str]:
    """Oldest first: by when it was first submitted, however often it came back."""
    return story["first_submitted_at"] or "", story["story_code"]


def _in_order(ready: list[Row], board: Board) -> list[Row]:
    """The ready stories whose dependencies are met, the best first: priority, then the longest path behind it."""
    waiting: dict[str, list[str]] = {}
    for edge in board["edges"]:
        waiting.setdefault(edge["code"], []).append(edge["after"])
    blocked = {e["code"] for e in board["edges"] if e["after_status"] != lc.StoryStatus.COMPLETED}
    weight = {s["story_code"]: max(1, s["story_points"] or 1) for s in board["stories"]}
    path = critical_path({code: waiting.get(code, []) for code in weight}, weight)
    free = [s for s in ready if s["story_code"] not in blocked]
    return sorted(free, key=lambda s: ready_order(s["priority"] or 1, path.get(s["story_code"], 0), s["story_code"]))
