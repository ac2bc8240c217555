-- Reading the log back: pages of it, and the tables that it must give.

-- name: history.page
SELECT seq, details FROM agent_activity
 WHERE seq > :after AND created_at <= :until ORDER BY seq LIMIT :size;

-- name: history.of_wave
SELECT a.seq, a.agent_id, a.activity_type, a.story_id, a.details, a.created_at, s.story_code
  FROM agent_activity a LEFT JOIN stories s ON s.id = a.story_id
 WHERE s.wave_id = :wave_id OR CAST(a.details ->> 'wave' AS TEXT) = :wave_code ORDER BY a.seq DESC LIMIT :size;

-- name: history.waves
SELECT * FROM waves;

-- name: history.stories
SELECT * FROM stories;

-- name: history.signals
SELECT * FROM signals;

-- name: history.agent_sessions
SELECT * FROM agent_sessions;

-- name: history.gate_transitions
SELECT * FROM gate_transitions;

-- name: history.qa_reports
SELECT * FROM qa_reports;

-- name: history.wave_dependencies
SELECT * FROM wave_dependencies;

-- name: history.story_dependencies
SELECT * FROM story_dependencies;

-- name: history.assignments
SELECT * FROM assignments;

-- name: history.agent_epochs
SELECT * FROM agent_epochs;

-- name: history.signal_deliveries
SELECT * FROM signal_deliveries;

-- name: history.agent_runs
SELECT * FROM agent_runs;

-- name: history.token_usage
SELECT * FROM token_usage;

-- name: history.domain_ownership
SELECT * FROM domain_ownership;

-- name: history.emergency_stops
SELECT * FROM emergency_stops;
