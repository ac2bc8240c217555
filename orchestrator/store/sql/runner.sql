-- What the runner looks at, each time something has happened.

-- name: runner.stories
SELECT s.id, s.story_code, s.title, s.domain, s.status, s.current_gate, s.priority, s.story_points, s.created_at,
       s.assigned_agent, s.fencing_token, s.first_submitted_at, w.wave_code, w.status AS wave_status, w.start_mode,
       CASE WHEN s.first_submitted_at IS NULL THEN 0 ELSE
            (SELECT COUNT(*) FROM gate_transitions g WHERE g.story_id = s.id AND g.transition_type = 'reject'
                AND (g.metadata ->> 'conflict') IS NOT NULL) END AS conflicts
  FROM stories s JOIN waves w ON w.id = s.wave_id
 WHERE s.status NOT IN ('completed', 'failed') AND w.status IN ('planning', 'active', 'paused')
 ORDER BY s.priority, s.created_at, s.id;

-- name: runner.edges
SELECT s.story_code AS code, p.story_code AS after, p.status AS after_status
  FROM story_dependencies d JOIN stories s ON s.id = d.story_id JOIN stories p ON p.id = d.depends_on_story_id
 WHERE s.status NOT IN ('completed', 'failed');

-- name: runner.open_waves
SELECT wave_code, status, start_mode FROM waves WHERE status IN ('planning', 'active', 'paused')
 ORDER BY priority, created_at, wave_code;

-- By tips of the target: one that conflicts twice with the same has not been resolved.
-- name: runner.conflicts
SELECT COUNT(DISTINCT metadata ->> 'target_tip') AS conflicts FROM gate_transitions
 WHERE story_id = :story_id AND transition_type = 'reject' AND (metadata ->> 'conflict') IS NOT NULL
   AND created_at > COALESCE((SELECT MAX(g.created_at) FROM gate_transitions g
                               WHERE g.story_id = :story_id AND g.transition_type = 'reset' AND g.notes = 'reopened'),
                             '2000-01-01T00:00:00.000000Z');

-- Those that a runner keeps, by their lives: one that is not here has ended.
-- name: runner.sessions
SELECT agent_id, epoch FROM agent_sessions WHERE status <> 'terminated' AND launched_by = 'runner';
