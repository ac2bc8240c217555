"""What the store holds, read with plain SQL, against what the model says."""

from __future__ import annotations

from collections import Counter

READ = {
    "waves": "SELECT wave_code, status FROM waves",
    "stories": """SELECT s.story_code, w.wave_code, s.status, s.current_gate, s.assigned_agent, s.fencing_token
                    FROM stories s LEFT JOIN waves w ON w.id = s.wave_id""",
    "assignments": """SELECT s.story_code, a.agent_id, a.epoch, a.fencing_token
                        FROM assignments a JOIN stories s ON s.id = a.story_id WHERE a.ended_at IS NULL""",
    "sessions": """SELECT a.agent_id, a.agent_type, a.domain, a.status, a.epoch, s.story_code, a.current_gate,
                          a.total_stories_completed
                     FROM agent_sessions a LEFT JOIN stories s ON s.id = a.current_story_id""",
    "gates": """SELECT s.story_code, g.from_gate, g.to_gate, g.transition_type
                  FROM gate_transitions g JOIN stories s ON s.id = g.story_id""",
    "reports": "SELECT s.story_code, q.verdict FROM qa_reports q JOIN stories s ON s.id = q.story_id",
    "stops": "SELECT scope, scope_value FROM emergency_stops WHERE lifted_at IS NULL",
}
SIGNALS = """SELECT g.id, g.signal_type, g.from_agent, g.to_agent, s.story_code, w.wave_code, g.priority, g.chain_depth,
                    g.status
               FROM signals g LEFT JOIN stories s ON s.id = g.story_id LEFT JOIN waves w ON w.id = g.wave_id"""
DELIVERIES = "SELECT signal_id, addressee, kind, status, taken_by, redeliveries FROM signal_deliveries"


def compare(store, model):
    """Row for row; the model learns the ids of the signals that are new."""
    said = {
        "waves": [(w.code, w.status) for w in model.waves.values()],
        "stories": [(s.code, s.wave, s.status, s.gate, s.assigned, s.token) for s in model.stories.values()],
        "assignments": [(s.code, *s.open) for s in model.stories.values() if s.open],
        "sessions": [
            (a.agent, a.role, a.domain, a.status, a.epoch, a.story, a.gate, a.completed)
            for a in model.sessions.values()
        ],
        "gates": [(s.code, *gate) for s in model.stories.values() for gate in s.gates],
        "reports": [(s.code, verdict) for s in model.stories.values() for verdict in s.reports],
        "stops": model.stops,
    }
    for what, sql in READ.items():
        stored, told = Counter(map(tuple, store.engine.raw(sql)[1])), Counter(map(tuple, said[what]))
        assert stored == told, f"{what}: only stored {stored - told}, only in the model {told - stored}"
    signals(store, model)


def signals(store, model):
    told = {}
    for signal, *delivery in store.engine.raw(DELIVERIES)[1]:
        addressee, kind, status, taken_by, given_back = delivery
        told.setdefault(str(signal), []).append((addressee, kind, status, taken_by or "", given_back))
    rows = {}
    for row in store.engine.raw(SIGNALS)[1]:
        kind, sender, to, story, wave, priority, depth, status = row[1:]
        rows[str(row[0])] = (
            kind, sender, to or "", story or "", wave or "", priority, depth, status,
            tuple(sorted(told.get(str(row[0]), ()))),
        )  # fmt: skip
    new = sorted((described, id_) for id_, described in rows.items() if id_ not in {s.id for s in model.signals})
    unseen = sorted((s for s in model.signals if s.id is None), key=lambda s: s.describe())
    sent, told_of = Counter(described for described, _ in new), Counter(s.describe() for s in unseen)
    assert sent == told_of, f"signals: only stored {sent - told_of}, only in the model {told_of - sent}"
    for (_, id_), signal in zip(new, unseen, strict=True):
        signal.id = id_
    for signal in model.signals:
        assert rows[signal.id] == signal.describe(), f"stored {rows[signal.id]}, in the model {signal.describe()}"
