-- Waves and what they wait for.

-- name: wave.get
SELECT * FROM waves WHERE wave_code = :code;

-- name: wave.by_id
SELECT * FROM waves WHERE id = :id;

-- name: wave.list
SELECT w.*, (SELECT COUNT(*) FROM stories s WHERE s.wave_id = w.id) AS stories,
       (SELECT COUNT(*) FROM stories s WHERE s.wave_id = w.id AND s.status = 'completed') AS completed,
       (SELECT COUNT(*) FROM stories s WHERE s.wave_id = w.id AND s.status = 'failed') AS failed
  FROM waves w ORDER BY w.created_at, w.priority, w.wave_code;

-- name: wave.insert
INSERT INTO waves (id, wave_code, name, description, status, priority, start_mode, created_at, updated_at)
VALUES (:id, :wave_code, :name, :description, :status, :priority, :start_mode, :now, :now)
RETURNING *;

-- name: wave.save
UPDATE waves SET status = :status, started_at = :started_at, completed_at = :completed_at, updated_at = :now
 WHERE id = :id AND status = :expected_status
RETURNING id, status, started_at, completed_at, updated_at;

-- name: wave.depend
INSERT INTO wave_dependencies (wave_id, depends_on_wave_id, created_at)
VALUES (:wave_id, :depends_on_wave_id, :now) ON CONFLICT DO NOTHING
RETURNING *;

-- name: wave.edges
SELECT w.wave_code AS code, p.wave_code AS after
  FROM wave_dependencies d JOIN waves w ON w.id = d.wave_id JOIN waves p ON p.id = d.depends_on_wave_id;

-- name: wave.open_dependencies
SELECT p.wave_code, p.status FROM wave_dependencies d JOIN waves p ON p.id = d.depends_on_wave_id
 WHERE d.wave_id = :wave_id AND p.status <> 'completed' ORDER BY p.wave_code;

-- The waves that waited for this one and wait for nothing else.
-- name: wave.freed_by
SELECT w.* FROM waves w JOIN wave_dependencies d ON d.wave_id = w.id
 WHERE d.depends_on_wave_id = :wave_id AND w.status = 'planning' AND w.start_mode = 'auto'
   AND NOT EXISTS (SELECT 1 FROM wave_dependencies e JOIN waves p ON p.id = e.depends_on_wave_id
                    WHERE e.wave_id = w.id AND p.status <> 'completed')
 ORDER BY w.priority, w.created_at, w.wave_code;

-- Those that the automatic PM starts: nothing left to wait for.
-- name: wave.startable
SELECT w.* FROM waves w
 WHERE w.status = 'planning' AND w.start_mode = 'auto'
   AND NOT EXISTS (SELECT 1 FROM wave_dependencies e JOIN waves p ON p.id = e.depends_on_wave_id
                    WHERE e.wave_id = w.id AND p.status <> 'completed')
 ORDER BY w.priority, w.created_at, w.wave_code;

-- name: wave.story_states
SELECT id, story_code, status FROM stories WHERE wave_id = :wave_id;

-- Its stories that wait, in the end, for a failed one; that may be a story of another wave.
-- name: wave.behind_failed
WITH RECURSIVE behind (id) AS (
    SELECT d.story_id FROM story_dependencies d JOIN stories p ON p.id = d.depends_on_story_id
     WHERE p.status = 'failed'
    UNION
    SELECT d.story_id FROM story_dependencies d JOIN behind b ON b.id = d.depends_on_story_id
)
SELECT s.id FROM stories s JOIN behind b ON b.id = s.id WHERE s.wave_id = :wave_id;

-- name: wave.active
SELECT id FROM waves WHERE status = 'active' ORDER BY wave_code;
