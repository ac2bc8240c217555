-- What `maf status` and the dashboards look at. Reads only.

-- The four monitoring queries, as the specification has them.

-- name: monitor.agents
SELECT agent_id, status, current_gate, last_heartbeat FROM agent_sessions WHERE status != 'terminated';

-- name: monitor.stories
SELECT story_code, status, current_gate, assigned_agent FROM stories WHERE status NOT IN ('completed', 'backlog');

-- name: monitor.signals
SELECT signal_type, from_agent, to_agent, created_at FROM signals WHERE status = 'pending';

-- name: monitor.waves
SELECT w.wave_code, COUNT(*) AS total_stories,
       SUM(CASE WHEN s.status = 'completed' THEN 1 ELSE 0 END) AS completed
  FROM waves w JOIN stories s ON s.wave_id = w.id WHERE w.status = 'active' GROUP BY w.wave_code;

-- name: board.flight
SELECT s.story_code, s.title, s.domain, s.status, s.current_gate, s.assigned_agent, s.updated_at, w.wave_code
  FROM stories s LEFT JOIN waves w ON w.id = s.wave_id
 WHERE s.status IN ('assigned', 'in_progress', 'qa_review', 'pm_review', 'failed')
 ORDER BY s.updated_at DESC, s.story_code;

-- name: board.story_counts
SELECT status, COUNT(*) AS stories FROM stories GROUP BY status;

-- name: board.pending
SELECT signal_type, COUNT(*) AS pending, MIN(created_at) AS oldest FROM signals WHERE status = 'pending'
 GROUP BY signal_type ORDER BY signal_type;

-- name: board.signals
SELECT g.*, s.story_code FROM signals g LEFT JOIN stories s ON s.id = g.story_id
 WHERE (CAST(:status AS TEXT) IS NULL OR g.status = :status) AND (CAST(:story AS TEXT) IS NULL OR s.story_code = :story)
 ORDER BY g.created_at DESC, g.id DESC LIMIT :size;
