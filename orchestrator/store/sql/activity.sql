-- The audit log.

-- name: activity.insert
INSERT INTO agent_activity (id, agent_id, activity_type, story_id, details, created_at)
VALUES (:id, :agent_id, :activity_type, :story_id, :details, :now);

-- What every write begins with: the newest moment of the log (the next is later, so that the clock never steps back),
-- and when the next session or signal runs out.
-- name: unit.begin
SELECT (SELECT created_at FROM agent_activity ORDER BY seq DESC LIMIT 1) AS last,
       (SELECT MIN(lease_until) FROM agent_sessions WHERE status <> 'terminated') AS lease_due,
       (SELECT MIN(expires_at) FROM signals
         WHERE expires_at IS NOT NULL AND status IN ('pending', 'acknowledged')) AS signal_due;

-- name: unit.begin@postgres
SELECT clock_timestamp() AS now, (SELECT created_at FROM agent_activity ORDER BY seq DESC LIMIT 1) AS last,
       (SELECT MIN(lease_until) FROM agent_sessions WHERE status <> 'terminated') AS lease_due,
       (SELECT MIN(expires_at) FROM signals
         WHERE expires_at IS NOT NULL AND status IN ('pending', 'acknowledged')) AS signal_due;

-- name: activity.page
SELECT seq, agent_id, activity_type, story_id, details, created_at FROM agent_activity
 WHERE seq > :after ORDER BY seq LIMIT :size;

-- name: activity.of_story
SELECT a.seq, a.agent_id, a.activity_type, a.story_id, a.details, a.created_at, s.story_code
  FROM agent_activity a LEFT JOIN stories s ON s.id = a.story_id
 WHERE a.story_id = :story_id ORDER BY a.seq DESC LIMIT :size;

-- name: activity.latest
SELECT a.seq, a.agent_id, a.activity_type, a.story_id, a.details, a.created_at, s.story_code
  FROM agent_activity a LEFT JOIN stories s ON s.id = a.story_id
 WHERE a.seq > :after ORDER BY a.seq DESC LIMIT :size;

-- name: activity.recent_alert
SELECT seq FROM agent_activity WHERE agent_id = :agent_id AND activity_type = :activity_type AND created_at > :since
 ORDER BY seq DESC LIMIT 1;

-- name: schema.version
SELECT MAX(version) AS version FROM schema_version;

-- name: clock.now
SELECT CURRENT_TIMESTAMP AS now;

-- name: clock.now@postgres
SELECT clock_timestamp() AS now;

-- name: idempotency.find
SELECT agent_id, use_case, request_digest, result FROM idempotency_keys WHERE idempotency_key = :key;

-- name: idempotency.insert
INSERT INTO idempotency_keys (idempotency_key, agent_id, use_case, request_digest, result, created_at)
VALUES (:key, :agent_id, :use_case, :digest, :result, :now);
