-- The invariants of the workflow (section 9 there). Each query returns no row where its invariant holds; a row says
-- where it does not. `invariant.<number>.<what>`; orchestrator/service/invariants.py runs them all.

-- name: invariant.1.one_open_assignment
SELECT s.story_code, COUNT(*) AS open_assignments
  FROM assignments a JOIN stories s ON s.id = a.story_id
 WHERE a.ended_at IS NULL GROUP BY s.story_code HAVING COUNT(*) > 1;

-- name: invariant.1.named_in_story
SELECT s.story_code, s.status, s.assigned_agent, a.agent_id AS holder
  FROM stories s LEFT JOIN assignments a ON a.story_id = s.id AND a.ended_at IS NULL
 WHERE (a.id IS NOT NULL AND (s.assigned_agent IS NULL OR s.assigned_agent <> a.agent_id))
    OR (a.id IS NULL AND s.status IN ('assigned', 'in_progress'));

-- name: invariant.2.tokens_without_gap
SELECT s.story_code, s.fencing_token, COUNT(a.id) AS assignments, MIN(a.fencing_token) AS lowest,
       MAX(a.fencing_token) AS highest
  FROM stories s LEFT JOIN assignments a ON a.story_id = s.id
 GROUP BY s.story_code, s.fencing_token
HAVING COUNT(a.id) <> s.fencing_token OR COALESCE(MIN(a.fencing_token), 1) <> 1
    OR COALESCE(MAX(a.fencing_token), 0) <> s.fencing_token;

-- name: invariant.2.no_overlap
SELECT s.story_code, a.fencing_token AS earlier, b.fencing_token AS later, a.ended_at, b.assigned_at
  FROM assignments a JOIN assignments b ON b.story_id = a.story_id AND b.fencing_token > a.fencing_token
  JOIN stories s ON s.id = a.story_id
 WHERE a.ended_at > b.assigned_at OR a.ended_at < a.assigned_at
    OR (a.ended_at IS NULL AND b.ended_at IS NOT NULL);

-- name: invariant.3.expired_after_lease
SELECT s.story_code, a.agent_id, a.ended_at, a.lease_until FROM assignments a JOIN stories s ON s.id = a.story_id
 WHERE a.end_reason = 'expired' AND (a.lease_until IS NULL OR a.ended_at < a.lease_until);

-- An assignment belongs to one life of its agent.
-- name: invariant.3.holder_lives
SELECT s.story_code, a.agent_id, a.epoch, t.epoch AS session_epoch, t.status
  FROM assignments a JOIN stories s ON s.id = a.story_id LEFT JOIN agent_sessions t ON t.agent_id = a.agent_id
 WHERE a.ended_at IS NULL AND (t.id IS NULL OR t.status = 'terminated' OR t.epoch <> a.epoch);

-- name: invariant.4.dependencies_completed
SELECT s.story_code, s.status, p.story_code AS dependency, p.status AS dependency_status
  FROM stories s JOIN story_dependencies d ON d.story_id = s.id JOIN stories p ON p.id = d.depends_on_story_id
 WHERE s.status NOT IN ('backlog', 'ready', 'failed') AND p.status <> 'completed';

-- name: invariant.4.assigned_after_dependencies
SELECT s.story_code, a.assigned_at, p.story_code AS dependency, p.completed_at
  FROM assignments a JOIN stories s ON s.id = a.story_id
  JOIN story_dependencies d ON d.story_id = s.id AND d.created_at <= a.assigned_at
  JOIN stories p ON p.id = d.depends_on_story_id
 WHERE p.status = 'completed' AND p.completed_at > a.assigned_at;

-- name: invariant.4.waves_completed
SELECT s.story_code, s.status, p.wave_code, p.status AS wave_status
  FROM stories s JOIN wave_dependencies d ON d.wave_id = s.wave_id JOIN waves p ON p.id = d.depends_on_wave_id
 WHERE s.status NOT IN ('backlog', 'ready', 'failed') AND p.status <> 'completed';

-- name: invariant.5.first_is_entry
SELECT s.story_code, g.from_gate, g.to_gate, g.transition_type
  FROM stories s LEFT JOIN (SELECT story_id, from_gate, to_gate, transition_type,
         ROW_NUMBER() OVER (PARTITION BY story_id ORDER BY created_at, id) AS place FROM gate_transitions) g
    ON g.story_id = s.id AND g.place = 1
 WHERE g.to_gate IS NULL OR g.from_gate IS NOT NULL OR g.to_gate <> 0 OR g.transition_type <> 'advance';

-- name: invariant.5.chain
SELECT s.story_code, g.last_to, g.from_gate, g.to_gate, g.transition_type
  FROM (SELECT story_id, from_gate, to_gate, transition_type,
               ROW_NUMBER() OVER (PARTITION BY story_id ORDER BY created_at, id) AS place,
               LAG(to_gate) OVER (PARTITION BY story_id ORDER BY created_at, id) AS last_to
          FROM gate_transitions) g JOIN stories s ON s.id = g.story_id
 WHERE g.place > 1
   AND (g.from_gate IS NULL OR g.from_gate <> g.last_to OR g.to_gate > 8
        OR (g.transition_type = 'advance' AND g.to_gate <> g.from_gate + 1)
        OR (g.transition_type <> 'advance' AND g.to_gate > g.from_gate));

-- name: invariant.5.last_is_current
SELECT s.story_code, s.current_gate, g.to_gate
  FROM stories s JOIN (SELECT story_id, to_gate,
         ROW_NUMBER() OVER (PARTITION BY story_id ORDER BY created_at DESC, id DESC) AS place FROM gate_transitions) g
    ON g.story_id = s.id AND g.place = 1
 WHERE g.to_gate <> s.current_gate;

-- Every gate from where the last reject or reset led, passed after it; those below, passed at some time.
-- name: invariant.6.all_gates_passed
SELECT s.story_code, n.gate FROM stories s
  CROSS JOIN (SELECT 0 AS gate UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
              UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7) n
  LEFT JOIN (SELECT story_id, to_gate, created_at,
                    ROW_NUMBER() OVER (PARTITION BY story_id ORDER BY created_at DESC, id DESC) AS place
               FROM gate_transitions WHERE transition_type <> 'advance') b ON b.story_id = s.id AND b.place = 1
 WHERE s.status = 'completed'
   AND NOT EXISTS (SELECT 1 FROM gate_transitions g
                    WHERE g.story_id = s.id AND g.transition_type = 'advance' AND g.from_gate = n.gate
                      AND (b.story_id IS NULL OR n.gate < b.to_gate OR g.created_at > b.created_at));

-- name: invariant.6.qa_passed
SELECT s.story_code, s.submitted_commit FROM stories s
 WHERE s.status = 'completed'
   AND NOT EXISTS (SELECT 1 FROM qa_reports q
                    WHERE q.story_id = s.id AND q.verdict = 'pass' AND q.commit_sha = s.submitted_commit
                      AND NOT EXISTS (SELECT 1 FROM gate_transitions g
                                       WHERE g.story_id = s.id AND g.transition_type = 'reject'
                                         AND g.created_at >= q.created_at)
                      AND NOT EXISTS (SELECT 1 FROM assignments a
                                       WHERE a.story_id = s.id AND a.agent_id = q.qa_agent));

-- name: invariant.7.evidence
SELECT s.story_code, g.from_gate, g.to_gate, g.agent_id
  FROM gate_transitions g JOIN stories s ON s.id = g.story_id
 WHERE g.transition_type = 'advance' AND g.from_gate IS NOT NULL
   AND NOT (COALESCE(CAST(g.metadata ->> 'exit_code' AS TEXT), '') = '0'
            AND COALESCE(CAST(g.metadata ->> 'command' AS TEXT), '') NOT IN ('', '[]'))
   AND COALESCE(CAST(g.metadata -> 'decision' ->> 'by' AS TEXT), '') = '';

-- name: invariant.8.one_merge
SELECT s.story_code, COUNT(g.id) AS merges
  FROM stories s LEFT JOIN gate_transitions g ON g.story_id = s.id AND g.from_gate = 7 AND g.to_gate = 8
 GROUP BY s.story_code, s.status
HAVING COUNT(g.id) <> CASE WHEN s.status = 'completed' THEN 1 ELSE 0 END;

-- name: invariant.8.merge_names_commit
SELECT s.story_code FROM stories s JOIN gate_transitions g ON g.story_id = s.id AND g.to_gate = 8
 WHERE COALESCE(CAST(g.metadata ->> 'commit' AS TEXT), '') = '';

-- What 6, 8 and 9 ask git about; these return rows by their nature.
-- name: invariant.git.merged
SELECT s.story_code, s.submitted_commit, CAST(g.metadata ->> 'commit' AS TEXT) AS merge_commit
  FROM stories s JOIN gate_transitions g ON g.story_id = s.id AND g.to_gate = 8 ORDER BY s.story_code;

-- name: invariant.git.known
SELECT s.story_code, s.branch_name, CAST(a.details ->> 'commit' AS TEXT) AS commit_sha
  FROM agent_activity a JOIN stories s ON s.id = a.story_id WHERE a.activity_type = 'story.submit'
UNION
SELECT s.story_code, s.branch_name, CAST(g.metadata ->> 'commit' AS TEXT)
  FROM gate_transitions g JOIN stories s ON s.id = g.story_id
 WHERE g.from_gate IN (2, 3) AND g.metadata ->> 'commit' IS NOT NULL
 ORDER BY 1, 3;

-- name: invariant.10.completed_wave
SELECT w.wave_code, s.story_code, s.status FROM waves w JOIN stories s ON s.wave_id = w.id
 WHERE w.status = 'completed' AND s.status <> 'completed';

-- name: invariant.10.one_completion
SELECT w.wave_code, w.status, w.completed_at, COUNT(s.id) AS completions
  FROM waves w LEFT JOIN signals s ON s.wave_id = w.id AND s.signal_type = 'wave_completed'
 GROUP BY w.wave_code, w.status, w.completed_at
HAVING COUNT(s.id) <> CASE WHEN w.status = 'completed' THEN 1 ELSE 0 END
    OR (w.status = 'completed' AND w.completed_at IS NULL);

-- name: invariant.10.active_wave_has_work
SELECT w.wave_code FROM waves w
 WHERE w.status = 'active'
   AND NOT EXISTS (SELECT 1 FROM stories s WHERE s.wave_id = w.id AND s.status NOT IN ('completed', 'failed'));

-- name: invariant.10.completed_wave_rests
SELECT w.wave_code, s.story_code, w.completed_at, s.updated_at FROM waves w JOIN stories s ON s.wave_id = w.id
 WHERE w.status = 'completed'
   AND (s.updated_at > w.completed_at OR s.created_at > w.completed_at
        OR EXISTS (SELECT 1 FROM gate_transitions g WHERE g.story_id = s.id AND g.created_at > w.completed_at));

-- name: invariant.10.one_story_a_dev
SELECT assigned_agent, COUNT(*) AS held FROM stories
 WHERE status IN ('assigned', 'in_progress') GROUP BY assigned_agent HAVING COUNT(*) > 1;

-- Who was live is read from the epochs: from a life's start to its end, or to the lease of the one that has no end yet.
-- An expired life ended with its lease, so not at that moment itself; a stopped one is still told of its stop.
-- name: invariant.11.no_fewer
SELECT g.signal_type, g.from_agent, g.created_at, e.agent_id AS missing
  FROM signals g JOIN agent_epochs e ON e.agent_id <> g.from_agent JOIN agent_sessions t ON t.agent_id = e.agent_id
 WHERE (g.to_agent IS NULL OR g.to_agent = 'all:' || e.agent_type
        OR g.to_agent = 'all:' || e.agent_type || '/' || e.domain)
   AND e.started_at <= g.created_at
   AND (COALESCE(e.ended_at, t.lease_until) > g.created_at OR (e.end_reason = 'stopped' AND e.ended_at = g.created_at))
   AND NOT EXISTS (SELECT 1 FROM signal_deliveries d WHERE d.signal_id = g.id AND d.addressee = e.agent_id);

-- name: invariant.11.no_more
SELECT g.signal_type, g.from_agent, g.created_at, d.addressee AS surplus
  FROM signals g JOIN signal_deliveries d ON d.signal_id = g.id
 WHERE d.kind = 'broadcast'
   AND NOT EXISTS (SELECT 1 FROM agent_epochs e JOIN agent_sessions t ON t.agent_id = e.agent_id
                    WHERE e.agent_id = d.addressee AND e.agent_id <> g.from_agent
                      AND (g.to_agent IS NULL OR g.to_agent = 'all:' || e.agent_type
                           OR g.to_agent = 'all:' || e.agent_type || '/' || e.domain)
                      AND e.started_at <= g.created_at
                      AND (COALESCE(e.ended_at, t.lease_until) > g.created_at
                           OR (e.end_reason = 'stopped' AND e.ended_at = g.created_at)));

-- name: invariant.12.in_order
SELECT d.id, d.status, d.sent_at, d.acknowledged_at, d.processed_at, d.expired_at FROM signal_deliveries d
 WHERE d.acknowledged_at < d.sent_at OR d.processed_at < d.acknowledged_at
    OR (d.processed_at IS NOT NULL AND d.expired_at IS NOT NULL)
    OR (d.status = 'pending' AND (d.acknowledged_at IS NOT NULL OR d.taken_by IS NOT NULL))
    OR (d.status IN ('acknowledged', 'processed') AND (d.acknowledged_at IS NULL OR d.taken_by IS NULL))
    OR (d.status = 'processed') <> (d.processed_at IS NOT NULL)
    OR (d.status = 'expired') <> (d.expired_at IS NOT NULL);

-- The log tells each time that a delivery became processed.
-- name: invariant.12.processed_once
SELECT json_extract(c.value, '$[2].id') AS id, COUNT(*) AS times
  FROM agent_activity a JOIN json_each(a.details, '$.changes') c
 WHERE json_extract(c.value, '$[0]') = 'signal_deliveries' AND json_extract(c.value, '$[2].status') = 'processed'
 GROUP BY json_extract(c.value, '$[2].id') HAVING COUNT(*) > 1;

-- name: invariant.12.processed_once@postgres
SELECT c.value -> 2 ->> 'id' AS id, COUNT(*) AS times
  FROM agent_activity a CROSS JOIN LATERAL jsonb_array_elements(COALESCE(a.details -> 'changes', '[]')) AS c (value)
 WHERE c.value ->> 0 = 'signal_deliveries' AND c.value -> 2 ->> 'status' = 'processed'
 GROUP BY c.value -> 2 ->> 'id' HAVING COUNT(*) > 1;

-- name: invariant.12.signal_shows_least_advanced
SELECT g.id, g.signal_type, g.status,
       MIN(CASE d.status WHEN 'pending' THEN 0 WHEN 'acknowledged' THEN 1 WHEN 'expired' THEN 2 ELSE 3 END) AS least
  FROM signals g LEFT JOIN signal_deliveries d ON d.signal_id = g.id
 GROUP BY g.id, g.signal_type, g.status
HAVING CASE g.status WHEN 'pending' THEN 0 WHEN 'acknowledged' THEN 1 WHEN 'expired' THEN 2 ELSE 3 END
    <> MIN(CASE d.status WHEN 'pending' THEN 0 WHEN 'acknowledged' THEN 1 WHEN 'expired' THEN 2 ELSE 3 END);

-- `allowed` holds type/role for every pair of the lifecycle's table.
-- name: invariant.13.role_may_send
SELECT g.id, g.signal_type, g.from_agent, t.agent_type
  FROM signals g LEFT JOIN agent_sessions t ON t.agent_id = g.from_agent
 WHERE g.from_agent NOT IN ('maf', 'user')
   AND (t.id IS NULL OR NOT (g.signal_type || '/' || t.agent_type {any:allowed}));

-- name: invariant.13.sender_was_live
SELECT g.id, g.signal_type, g.from_agent, g.created_at FROM signals g
 WHERE g.from_agent NOT IN ('maf', 'user')
   AND NOT EXISTS (SELECT 1 FROM agent_epochs e JOIN agent_sessions t ON t.agent_id = e.agent_id
                    WHERE e.agent_id = g.from_agent AND e.started_at <= g.created_at
                      AND COALESCE(e.ended_at, t.lease_until) >= g.created_at);

-- name: invariant.14.within_budget
SELECT id, agent_id, started_at, spent_microusd, budget_microusd FROM agent_runs
 WHERE budget_microusd IS NOT NULL AND spent_microusd >= budget_microusd;

-- name: invariant.16.one_result
SELECT idempotency_key, COUNT(*) AS results FROM idempotency_keys
 GROUP BY idempotency_key HAVING COUNT(*) <> 1 OR COUNT(result -> 'value') <> COUNT(*);

-- name: invariant.16.timestamps
SELECT place, moment FROM (
    SELECT 'waves.started_at' AS place, started_at AS moment FROM waves
    UNION ALL SELECT 'waves.completed_at', completed_at FROM waves
    UNION ALL SELECT 'waves.created_at', created_at FROM waves
    UNION ALL SELECT 'waves.updated_at', updated_at FROM waves
    UNION ALL SELECT 'stories.assigned_at', assigned_at FROM stories
    UNION ALL SELECT 'stories.started_at', started_at FROM stories
    UNION ALL SELECT 'stories.completed_at', completed_at FROM stories
    UNION ALL SELECT 'stories.created_at', created_at FROM stories
    UNION ALL SELECT 'stories.updated_at', updated_at FROM stories
    UNION ALL SELECT 'stories.first_submitted_at', first_submitted_at FROM stories
    UNION ALL SELECT 'signals.expires_at', expires_at FROM signals
    UNION ALL SELECT 'signals.acknowledged_at', acknowledged_at FROM signals
    UNION ALL SELECT 'signals.processed_at', processed_at FROM signals
    UNION ALL SELECT 'signals.created_at', created_at FROM signals
    UNION ALL SELECT 'agent_sessions.last_heartbeat', last_heartbeat FROM agent_sessions
    UNION ALL SELECT 'agent_sessions.started_at', started_at FROM agent_sessions
    UNION ALL SELECT 'agent_sessions.ended_at', ended_at FROM agent_sessions
    UNION ALL SELECT 'agent_sessions.lease_until', lease_until FROM agent_sessions
    UNION ALL SELECT 'agent_sessions.last_progress', last_progress FROM agent_sessions
    UNION ALL SELECT 'agent_activity.created_at', created_at FROM agent_activity
    UNION ALL SELECT 'gate_transitions.created_at', created_at FROM gate_transitions
    UNION ALL SELECT 'qa_reports.created_at', created_at FROM qa_reports
    UNION ALL SELECT 'wave_dependencies.created_at', created_at FROM wave_dependencies
    UNION ALL SELECT 'story_dependencies.created_at', created_at FROM story_dependencies
    UNION ALL SELECT 'assignments.assigned_at', assigned_at FROM assignments
    UNION ALL SELECT 'assignments.ended_at', ended_at FROM assignments
    UNION ALL SELECT 'assignments.lease_until', lease_until FROM assignments
    UNION ALL SELECT 'agent_epochs.started_at', started_at FROM agent_epochs
    UNION ALL SELECT 'agent_epochs.ended_at', ended_at FROM agent_epochs
    UNION ALL SELECT 'signal_deliveries.sent_at', sent_at FROM signal_deliveries
    UNION ALL SELECT 'signal_deliveries.delivered_at', delivered_at FROM signal_deliveries
    UNION ALL SELECT 'signal_deliveries.acknowledged_at', acknowledged_at FROM signal_deliveries
    UNION ALL SELECT 'signal_deliveries.processed_at', processed_at FROM signal_deliveries
    UNION ALL SELECT 'signal_deliveries.expired_at', expired_at FROM signal_deliveries
    UNION ALL SELECT 'agent_runs.started_at', started_at FROM agent_runs
    UNION ALL SELECT 'agent_runs.ended_at', ended_at FROM agent_runs
    UNION ALL SELECT 'token_usage.created_at', created_at FROM token_usage
    UNION ALL SELECT 'domain_ownership.updated_at', updated_at FROM domain_ownership
    UNION ALL SELECT 'emergency_stops.created_at', created_at FROM emergency_stops
    UNION ALL SELECT 'emergency_stops.lifted_at', lifted_at FROM emergency_stops
    UNION ALL SELECT 'idempotency_keys.created_at', created_at FROM idempotency_keys
    UNION ALL SELECT 'schema_version.applied_at', applied_at FROM schema_version
) AS times
 WHERE moment IS NOT NULL
   AND NOT (moment GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z'
            AND julianday(moment) > 0);

-- Postgres keeps moments, not text: UTC by their type.
-- name: invariant.16.timestamps@postgres
SELECT c.table_name || '.' || c.column_name AS place, c.data_type AS moment FROM information_schema.columns c
 WHERE c.table_schema = current_schema() AND c.data_type IN ('timestamp without time zone', 'date')
   AND c.table_name IN ('waves', 'stories', 'signals', 'agent_sessions', 'agent_activity', 'gate_transitions',
                        'qa_reports', 'wave_dependencies', 'story_dependencies', 'assignments', 'agent_epochs',
                        'signal_deliveries', 'agent_runs', 'token_usage', 'domain_ownership', 'emergency_stops',
                        'idempotency_keys', 'schema_version');

-- name: invariant.17.integrity
SELECT integrity_check AS problem FROM pragma_integrity_check WHERE integrity_check <> 'ok';

-- Postgres checks its constraints at every write; one that was added without looking at the rows is the exception.
-- name: invariant.17.integrity@postgres
SELECT conname AS problem FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace
 WHERE n.nspname = current_schema() AND NOT c.convalidated;

-- name: invariant.17.foreign_keys
SELECT "table" AS place, rowid AS row_number, parent FROM pragma_foreign_key_check;

-- name: invariant.17.foreign_keys@postgres
SELECT c.conname AS problem FROM pg_trigger t JOIN pg_constraint c ON c.oid = t.tgconstraint
  JOIN pg_namespace n ON n.oid = c.connamespace
 WHERE n.nspname = current_schema() AND t.tgenabled = 'D';

-- name: invariant.17.schema_version
SELECT MAX(version) AS version FROM schema_version HAVING COALESCE(MAX(version), 0) <> :version;
