-- Stories, their dependencies, assignments, gates and reports.

-- name: story.get
SELECT s.*, w.wave_code, w.status AS wave_status, w.updated_at AS wave_updated_at
  FROM stories s LEFT JOIN waves w ON w.id = s.wave_id WHERE s.story_code = :code;

-- name: story.by_id
SELECT s.*, w.wave_code, w.status AS wave_status, w.updated_at AS wave_updated_at
  FROM stories s LEFT JOIN waves w ON w.id = s.wave_id WHERE s.id = :id;

-- name: story.list
SELECT s.*, w.wave_code, w.status AS wave_status FROM stories s LEFT JOIN waves w ON w.id = s.wave_id
 ORDER BY w.created_at, w.wave_code, s.priority, s.created_at, s.id;

-- name: story.of_wave
SELECT * FROM stories WHERE wave_id = :wave_id ORDER BY priority, created_at, id;

-- name: story.codes
SELECT id, story_code FROM stories;

-- name: story.insert
INSERT INTO stories (id, wave_id, story_code, title, description, acceptance_criteria, domain, story_type, priority,
                     story_points, status, current_gate, metadata, created_at, updated_at)
VALUES (:id, :wave_id, :story_code, :title, :description, :acceptance_criteria, :domain, :story_type, :priority,
        :story_points, :status, 0, :metadata, :now, :now)
RETURNING *;

-- The one transition: a compare-and-swap on status, gate and fencing token.
-- name: story.save
UPDATE stories
   SET wave_id = :wave_id, status = :status, current_gate = :current_gate, assigned_agent = :assigned_agent,
       assigned_at = :assigned_at, branch_name = :branch_name, base_commit = :base_commit, started_at = :started_at,
       completed_at = :completed_at, submitted_commit = :submitted_commit, first_submitted_at = :first_submitted_at,
       fencing_token = :fencing_token, updated_at = :now
 WHERE id = :id AND status = :expected_status AND current_gate = :expected_gate AND fencing_token = :expected_token
RETURNING id, wave_id, status, current_gate, assigned_agent, assigned_at, branch_name, base_commit, started_at,
          completed_at, submitted_commit, first_submitted_at, fencing_token, updated_at;

-- The best ready story: in an active wave, nothing it depends on left. In the order of the partial index, which both
-- planners follow to the first that fits: the wave is looked up for each, as a join would be begun from the waves and
-- sort all their ready stories.
-- name: story.next
SELECT s.*, (SELECT w.wave_code FROM waves w WHERE w.id = s.wave_id) AS wave_code, 'active' AS wave_status,
       (SELECT w.updated_at FROM waves w WHERE w.id = s.wave_id) AS wave_updated_at
  FROM stories s
 WHERE s.status = 'ready' AND (SELECT w.status = 'active' FROM waves w WHERE w.id = s.wave_id)
   AND NOT EXISTS (SELECT 1 FROM story_dependencies d JOIN stories p ON p.id = d.depends_on_story_id
                    WHERE d.story_id = s.id AND p.status <> 'completed')
   AND NOT EXISTS (SELECT 1 FROM emergency_stops e WHERE e.lifted_at IS NULL
                    AND (e.scope = 'all' OR (e.scope = 'domain' AND e.scope_value = s.domain)
                         OR (e.scope = 'wave'
                             AND e.scope_value = (SELECT w.wave_code FROM waves w WHERE w.id = s.wave_id))))
 ORDER BY s.priority, s.created_at, s.id LIMIT 1;

-- name: story.next_of_domain
SELECT s.*, (SELECT w.wave_code FROM waves w WHERE w.id = s.wave_id) AS wave_code, 'active' AS wave_status,
       (SELECT w.updated_at FROM waves w WHERE w.id = s.wave_id) AS wave_updated_at
  FROM stories s
 WHERE s.status = 'ready' AND s.domain = :domain AND (SELECT w.status = 'active' FROM waves w WHERE w.id = s.wave_id)
   AND NOT EXISTS (SELECT 1 FROM story_dependencies d JOIN stories p ON p.id = d.depends_on_story_id
                    WHERE d.story_id = s.id AND p.status <> 'completed')
   AND NOT EXISTS (SELECT 1 FROM emergency_stops e WHERE e.lifted_at IS NULL
                    AND (e.scope = 'all' OR (e.scope = 'domain' AND e.scope_value = s.domain)
                         OR (e.scope = 'wave'
                             AND e.scope_value = (SELECT w.wave_code FROM waves w WHERE w.id = s.wave_id))))
 ORDER BY s.priority, s.created_at, s.id LIMIT 1;

-- name: story.open_dependencies
SELECT p.story_code, p.status FROM story_dependencies d JOIN stories p ON p.id = d.depends_on_story_id
 WHERE d.story_id = :story_id AND p.status <> 'completed' ORDER BY p.story_code;

-- name: story.dependencies
SELECT p.story_code, p.status FROM story_dependencies d JOIN stories p ON p.id = d.depends_on_story_id
 WHERE d.story_id = :story_id ORDER BY p.story_code;

-- name: story.depend
INSERT INTO story_dependencies (story_id, depends_on_story_id, created_at)
VALUES (:story_id, :depends_on_story_id, :now) ON CONFLICT DO NOTHING
RETURNING *;

-- name: story.edges
SELECT s.story_code AS code, p.story_code AS after
  FROM story_dependencies d JOIN stories s ON s.id = d.story_id JOIN stories p ON p.id = d.depends_on_story_id;

-- name: story.wave_pairs
SELECT s.story_code, w.wave_code FROM stories s JOIN waves w ON w.id = s.wave_id;

-- name: story.held_by
SELECT id, story_code, status FROM stories
 WHERE assigned_agent = :agent_id AND status IN ('assigned', 'in_progress') LIMIT 1;

-- name: assignment.open
SELECT * FROM assignments WHERE story_id = :story_id AND ended_at IS NULL;

-- name: assignment.latest
SELECT * FROM assignments WHERE story_id = :story_id ORDER BY fencing_token DESC LIMIT 1;

-- name: assignment.open_of_agent
SELECT a.*, s.story_code, s.status AS story_status FROM assignments a JOIN stories s ON s.id = a.story_id
 WHERE a.agent_id = :agent_id AND a.ended_at IS NULL ORDER BY a.assigned_at;

-- name: assignment.all_open
SELECT a.*, s.story_code, s.status AS story_status, s.domain, w.wave_code
  FROM assignments a JOIN stories s ON s.id = a.story_id LEFT JOIN waves w ON w.id = s.wave_id
 WHERE a.ended_at IS NULL ORDER BY a.assigned_at;

-- name: assignment.of_story
SELECT * FROM assignments WHERE story_id = :story_id ORDER BY fencing_token;

-- name: assignment.insert
INSERT INTO assignments (id, story_id, agent_id, epoch, fencing_token, assigned_by, assigned_at)
VALUES (:id, :story_id, :agent_id, :epoch, :fencing_token, :assigned_by, :now)
RETURNING *;

-- name: assignment.end
UPDATE assignments SET ended_at = :now, end_reason = :end_reason, lease_until = :lease_until
 WHERE id = :id AND ended_at IS NULL
RETURNING id, ended_at, end_reason, lease_until;

-- name: assignment.was_held_by
SELECT id FROM assignments WHERE story_id = :story_id AND agent_id = :agent_id LIMIT 1;

-- name: gate.insert
INSERT INTO gate_transitions (id, story_id, from_gate, to_gate, agent_id, transition_type, notes, metadata, created_at)
VALUES (:id, :story_id, :from_gate, :to_gate, :agent_id, :transition_type, :notes, :metadata, :now)
RETURNING *;

-- name: gate.of_story
SELECT * FROM gate_transitions WHERE story_id = :story_id ORDER BY created_at, id;

-- name: gate.last_reject
SELECT * FROM gate_transitions WHERE story_id = :story_id AND transition_type IN ('reject', 'reset')
   AND to_gate IN (1, 2) AND notes <> 'reopened' ORDER BY created_at DESC, id DESC LIMIT 1;

-- name: qa.insert
INSERT INTO qa_reports (id, story_id, qa_agent, verdict, findings, coverage_percent, commit_sha, metadata, created_at)
VALUES (:id, :story_id, :qa_agent, :verdict, :findings, :coverage_percent, :commit_sha, :metadata, :now)
RETURNING *;

-- name: qa.of_story
SELECT * FROM qa_reports WHERE story_id = :story_id ORDER BY created_at, id;

-- name: ownership.get
SELECT * FROM domain_ownership WHERE domain = :domain;

-- name: ownership.put
INSERT INTO domain_ownership (domain, owns, reads, forbidden, updated_at)
VALUES (:domain, :owns, :reads, :forbidden, :now)
RETURNING *;

-- name: ownership.change
UPDATE domain_ownership SET owns = :owns, reads = :reads, forbidden = :forbidden, updated_at = :now
 WHERE domain = :domain RETURNING *;

-- name: run.insert
INSERT INTO agent_runs (id, agent_id, epoch, agent_type, story_id, fencing_token, attempt, vm_identifier, log_path,
                        started_at)
VALUES (:id, :agent_id, :epoch, :agent_type, :story_id, :fencing_token, :attempt, :vm_identifier, :log_path, :now)
RETURNING *;

-- name: run.launched
UPDATE agent_runs SET pid = :pid, process_started = :process_started WHERE id = :id AND ended_at IS NULL
RETURNING id, pid, process_started;

-- name: run.end
UPDATE agent_runs SET ended_at = :now, outcome = :outcome, exit_code = :exit_code, counted = :counted
 WHERE id = :id AND ended_at IS NULL
RETURNING id, ended_at, outcome, exit_code, counted;

-- name: run.open
SELECT r.*, s.story_code FROM agent_runs r LEFT JOIN stories s ON s.id = r.story_id
 WHERE r.ended_at IS NULL ORDER BY r.started_at;

-- name: run.of_story
SELECT * FROM agent_runs WHERE story_id = :story_id ORDER BY started_at, id;

-- name: run.attempts
SELECT COUNT(*) AS attempts FROM agent_runs WHERE story_id = :story_id AND counted = 1
   AND started_at > COALESCE((SELECT MAX(g.created_at) FROM gate_transitions g
                               WHERE g.story_id = :story_id AND g.transition_type = 'reset' AND g.notes = 'reopened'),
                             '2000-01-01T00:00:00.000000Z');

-- name: stop.insert
INSERT INTO emergency_stops (id, scope, scope_value, reason, stopped_by, created_at)
VALUES (:id, :scope, :scope_value, :reason, :stopped_by, :now)
RETURNING *;

-- name: stop.lift
UPDATE emergency_stops SET lifted_by = :lifted_by, lifted_at = :now WHERE id = :id AND lifted_at IS NULL
RETURNING id, lifted_by, lifted_at;

-- name: stop.in_force
SELECT * FROM emergency_stops WHERE lifted_at IS NULL ORDER BY created_at;
