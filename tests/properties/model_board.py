"""The model's other half: stories, waves, emergency stops."""

from __future__ import annotations

from orchestrator.domain import lifecycle as lc
from tests.properties.model import INPUT, LOST, MISSING, RULE, Model, S, Session, Story, W, Wave

ENTERED_BY = (lc.USER, lc.Role.PM, lc.Role.CTO)
CHECKED = frozenset({"advance", "submit", "pass", "integrate", "merge"})
"""Actions that stand on checks: they need evidence, and may record it in a wave that was paused meanwhile."""


class Board(Model):
    # --- plans -----------------------------------------------------------------------------------------------

    def circle(self, story_after, wave_after):
        """Whether waiting goes round: stories wait for stories and their wave's start, waves for waves' ends."""
        waits = {("start", w): [("end", o) for o in after] for w, after in wave_after.items()}
        for wave in wave_after:
            inside = [("story", s.code) for s in self.stories.values() if s.wave == wave]
            waits["end", wave] = [("start", wave), *inside]
        for code, after in story_after.items():
            waits["story", code] = [("story", o) for o in after]
            if self.stories[code].wave:
                waits["story", code].append(("start", self.stories[code].wave))
        done = set()
        while ready := [n for n in waits if n not in done and all(o in done for o in waits[n])]:
            done.update(ready)
        return len(done) < len(waits)

    def closes_circle(self):
        return self.circle(
            {s.code: s.after for s in self.stories.values()}, {w.code: w.after for w in self.waves.values()}
        )

    def faults_add_wave(self, who, code, after):
        faults = self.faults_actor(who, ENTERED_BY)
        faults |= {RULE} if code in self.waves else set()
        faults |= {INPUT} if code in after else set()
        return faults | {MISSING for other in after if other != code and other not in self.waves}

    def add_wave(self, code, after, *, manual):
        self.waves[code] = Wave(code, tuple(after), manual, moved_at=self.now)

    def faults_add_story(self, who, code, wave, after):
        faults = self.faults_actor(who, ENTERED_BY)
        if wave not in self.waves:
            faults.add(MISSING)
        elif self.waves[wave].status not in lc.OPEN_WAVES:
            faults.add(RULE)
        faults |= {RULE} if code in self.stories else set()
        faults |= {INPUT} if code in after else set()
        faults |= {MISSING for other in after if other != code and other not in self.stories}
        if not faults:
            self.stories[code] = Story(code, wave, "core", 1, criteria=True, after=tuple(after))
            faults |= {INPUT} if self.closes_circle() else set()
            del self.stories[code]
        return faults

    def add_story(self, code, wave, after, *, domain, priority, criteria):
        self.stories[code] = Story(code, wave, domain, priority, criteria, tuple(after))

    def faults_depend(self, who, code, other):
        faults = self.faults_actor(who, ENTERED_BY)
        if code not in self.stories or other not in self.stories:
            return faults | {MISSING}
        story = self.stories[code]
        wave = self.waves.get(story.wave)
        if story.status not in (S.BACKLOG, S.READY) or (wave is not None and wave.status != W.PLANNING):
            faults.add(RULE)
        before, story.after = story.after, (*story.after, other)
        faults |= {INPUT} if code == other or self.closes_circle() else set()
        story.after = before
        return faults

    def depend(self, code, other):
        story = self.stories[code]
        story.after = tuple(dict.fromkeys((*story.after, other)))
        self.judge_all(None)

    # --- stories: may it? ------------------------------------------------------------------------------------

    def faults(
        self, name, who, code, *, epoch=None, token=None, to=None, gate=None, commit=None, since=None, proof=True
    ):
        """Of a story's action. ``since``: when its check began; ``proof``: with evidence of a check that passed."""
        action = lc.STORY_ACTIONS[name]
        faults = self.faults_actor(who, action.by, epoch)
        story = self.stories.get(code)
        if story is None:
            return faults | {MISSING}
        if story.status not in action.frm or (action.gates and story.gate not in action.gates):
            faults.add(RULE)
        wave = self.waves.get(story.wave)
        if action.active_wave and (wave is None or wave.status != W.ACTIVE):
            began_before = wave is not None and wave.status == W.PAUSED and since is not None and since < wave.moved_at
            faults |= set() if began_before and name in CHECKED else {RULE}
        if action.fenced:
            faults |= self._fence(story, who, token)
        faults |= {RULE} if name in CHECKED and not proof else set()
        if name == "approve" and not story.criteria:
            faults.add(RULE)
        if name == "assign":
            faults |= self._assignable(story, to)
        if name == "advance" and gate != story.gate:
            faults.add(LOST)
        if name in ("pass", "integrate") and commit != story.commit:
            faults.add(LOST)
        if name in ("pass", "reject") and who in story.holders:
            faults.add(RULE)
        if name == "reopen" and (wave is None or wave.status not in lc.OPEN_WAVES):
            faults.add(RULE)
        return faults

    def _fence(self, story, who, token):
        session: Session | None = self.sessions.get(who)
        if session is None or not story.open or story.open[:2] != (who, session.epoch):
            return {RULE} if token is None else {LOST}
        return set() if token == story.open[2] or (token is None and not session.runner) else {LOST}

    def _assignable(self, story, to):
        if to not in self.sessions:
            return {MISSING}
        dev = self.sessions[to]
        fits = (
            self.live(to) and dev.role == lc.Role.DEV and dev.domain in (None, story.domain)
            and all(self.stories[other].status == S.COMPLETED for other in story.after)
            and not any(s.held and s.assigned == to for s in self.stories.values())
            and not self.stopped(agent=to, domain=story.domain, wave=story.wave)
        )  # fmt: skip
        return set() if fits else {RULE}

    def stopped(self, **places):
        return any(scope == "all" or (scope in places and places[scope] == value) for scope, value in self.stops)

    def best(self, dev):
        """What ``next`` takes: the most urgent ready story of the dev's domain, the oldest of those."""
        fitting = [
            s for s in self.stories.values()
            if s.status == S.READY and s.wave and self.waves[s.wave].status == W.ACTIVE
            and self.sessions[dev].domain in (None, s.domain)
            and all(self.stories[other].status == S.COMPLETED for other in s.after)
            and not self.stopped(domain=s.domain, wave=s.wave)
        ]  # fmt: skip
        return min(fitting, key=lambda s: s.priority, default=None)

    def faults_next(self, who, epoch=None):
        faults = self.faults_actor(who, (lc.Role.DEV,), epoch)
        if faults:
            return faults
        if any(s.held and s.assigned == who for s in self.stories.values()) or self.stopped(agent=who):
            faults.add(RULE)
        return faults | ({MISSING} if self.best(who) is None else set())

    # --- stories: what it does ---------------------------------------------------------------------------------

    def act(self, name, who, code, *, to=None, commit=None, **_):
        """An accepted action of the story's life."""
        story, action = self.stories[code], lc.STORY_ACTIONS[name]
        if name == "assign":
            self.assign(story, to, who)
        elif action.to == S.IN_PROGRESS and action.transition is lc.Transition.REJECT:
            self.send_back(story, action, who)
        elif name == "release":
            self.release(story, who)
        elif name == "fail":
            self.fail(story, who)
            self.judge_all(story.wave)
        elif name == "reopen":
            self.reopen(story, who)
        else:
            self.move(story, action, who)
            if name in ("start", "advance"):
                self.event(who, "start", story)
            elif name == "submit":
                story.commit = commit
                if self.sessions[who].story == code:
                    self.event(who, "let go")
                self.about(action.signal, who, f"role:{lc.Role.QA}", story)
            elif name == "merge":
                self.merged(story, who)
            elif action.signal is not None:
                self.about(action.signal, who, f"role:{lc.SIGNALS[action.signal].to}", story)
        if name in ("pass", "reject"):
            story.reports += (lc.Verdict.PASS if name == "pass" else lc.Verdict.FAIL,)

    def assign(self, story, to, by):
        story.token += 1
        story.open, story.assigned = (to, self.sessions[to].epoch, story.token), to
        story.holders += (to,)
        self.move(story, lc.STORY_ACTIONS["assign"], by)
        self.event(to, "hold", story)
        self.about(lc.SignalType.STORY_ASSIGNED, by, to, story)

    def send_back(self, story, action, who):
        busy = story.open and any(s.held and s.assigned == story.open[0] for s in self.stories.values())
        self.move(story, action, who)
        self.about(action.signal, who, story.holders[-1], story)
        if not story.open or busy:
            self.release(story, lc.TOOL)
        else:
            self.event(story.open[0], "hold", story)

    def fail(self, story, who):
        if story.open:
            agent, story.open = story.open[0], None
            if self.sessions[agent].story == story.code:
                self.event(agent, "let go")
        story.assigned = None
        self.move(story, lc.STORY_ACTIONS["fail"], who)
        self.about(lc.SignalType.STORY_FAILED, lc.TOOL, f"role:{lc.Role.PM}", story)

    def reopen(self, story, who):
        self.move(story, lc.STORY_ACTIONS["reopen"], who, lc.reopened_status(story.gate))

    def merged(self, story, who):
        story.open = None
        self.sessions[story.holders[-1]].completed += 1
        self.about(lc.SignalType.MERGE_COMPLETE, who, None, story)
        self.judge_all(story.wave)

    # --- waves -------------------------------------------------------------------------------------------------

    def faults_wave(self, name, who, code, without=()):
        action = lc.WAVE_ACTIONS[name]
        faults = self.faults_actor(who, action.by)
        if code not in self.waves:
            return faults | {MISSING}
        wave = self.waves[code]
        if wave.status not in action.frm:
            faults.add(RULE)
        if name == "start" and any(self.waves[other].status != W.COMPLETED for other in wave.after):
            faults.add(RULE)
        if name == "fail" and not any(s.status in lc.UNENDED_STORIES for s in self.of(code)):
            faults.add(RULE)
        for other in without:
            if other not in self.stories:
                faults.add(MISSING)
            elif self.stories[other].wave != code:
                faults.add(INPUT)
            elif self.stories[other].status == S.COMPLETED:
                faults.add(RULE)
        return faults

    def of(self, wave):
        return [s for s in self.stories.values() if s.wave == wave]

    def act_wave(self, name, who, code, without=()):
        wave = self.waves[code]
        for other in without:
            self.stories[other].wave = None
        if name == "fail":
            for story in self.of(code):
                if story.status in lc.UNENDED_STORIES:
                    self.fail(story, who)
        self.move_wave(wave, name, who)
        if name == "retry":
            for story in self.of(code):
                if story.status == S.FAILED:
                    self.reopen(story, who)
        if name == "fail":
            self.judge_all(None)
        elif name != "pause":
            self.judge(wave)

    def move_wave(self, wave, name, who):
        action = lc.WAVE_ACTIONS[name]
        wave.status, wave.moved_at = action.to, self.now
        self.emit(action.signal, who, None, wave=wave.code)

    def judge_all(self, first):
        """After the end of a story: its own wave, then whichever other now waits behind a failed one alone."""
        for wave in sorted(self.waves.values(), key=lambda w: w.code != first):
            if wave.code == first or any(s.status == S.FAILED for s in self.of(wave.code)):
                self.judge(wave)

    def judge(self, wave):
        if wave.status != W.ACTIVE:
            return
        stories = self.of(wave.code)
        if all(s.status == S.COMPLETED for s in stories):
            self.move_wave(wave, "complete", lc.TOOL)
            for other in self.waves.values():
                waited = wave.code in other.after and other.status == W.PLANNING and not other.manual
                if waited and all(self.waves[w].status == W.COMPLETED for w in other.after):
                    self.move_wave(other, "start", lc.TOOL)
                    self.judge(other)
        elif any(s.status == S.FAILED for s in stories):
            behind = {s.code for s in self.stories.values() if s.status == S.FAILED}
            while more := {
                s.code for s in self.stories.values()
                if s.status in lc.UNENDED_STORIES and s.code not in behind and behind.intersection(s.after)
            }:  # fmt: skip
                behind |= more
            if all(s.status not in lc.UNENDED_STORIES or s.code in behind for s in stories):
                self.move_wave(wave, "fail", lc.TOOL)

    # --- emergency stops ---------------------------------------------------------------------------------------

    def faults_stop(self, who, scope, value):
        faults = self.faults_actor(who, (lc.Role.CTO, lc.Role.PM))
        known = {"agent": self.sessions, "wave": self.waves}.get(scope)
        return faults | ({MISSING} if known is not None and value not in known else set())

    def stop(self, who, scope, value):
        self.stops.append((scope, value))
        others = [s for s in self.sessions.values() if self.live(s.agent) and s.agent != who]
        holds = {s.assigned: s for s in self.stories.values() if s.held}
        hit, told = others, [None]
        if scope == "agent":
            hit, told = [s for s in others if s.agent == value], [value]
        elif scope == "domain":
            holders = [s for s in others if s.agent in holds and holds[s.agent].domain == value]
            hit = [s for s in others if s.domain == value or s in holders]
            reached = (lc.Role.DEV, value)  # by the broadcast; everybody else who is stopped is told apart
            told = [f"all:{lc.Role.DEV}/{value}", *(s.agent for s in hit if (s.role, s.domain) != reached)]
        elif scope == "wave":
            hit = [s for s in others if s.agent in holds and holds[s.agent].wave == value]
            told = [s.agent for s in hit]
        for to in told:
            self.emit(lc.SignalType.EMERGENCY_STOP, who, to)
        for session in hit:
            self.end(session.agent)

    def faults_resume(self, who, scope, value):
        faults = self.faults_actor(who, (lc.Role.CTO, lc.Role.PM))
        return faults | (set() if [s for s in self.stops if scope is None or s == (scope, value)] else {RULE})

    def resume(self, scope, value):
        self.stops = [s for s in self.stops if scope is not None and s != (scope, value)]
