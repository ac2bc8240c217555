-- Agents' sessions, their epochs, and leases.

-- name: session.get
SELECT * FROM agent_sessions WHERE agent_id = :agent_id {for_update};

-- name: session.look
SELECT * FROM agent_sessions WHERE agent_id = :agent_id;

-- name: session.list
SELECT a.*, s.story_code FROM agent_sessions a LEFT JOIN stories s ON s.id = a.current_story_id
 ORDER BY CASE WHEN a.status = 'terminated' THEN 1 ELSE 0 END, a.agent_id;

-- name: session.insert
INSERT INTO agent_sessions (id, agent_id, agent_type, domain, vm_identifier, status, last_heartbeat, started_at, epoch,
                            launched_by, ttl_seconds, lease_until, last_progress)
VALUES (:id, :agent_id, :agent_type, :domain, :vm_identifier, :status, :now, :now, 1, :launched_by, :ttl_seconds,
        :lease_until, :now)
RETURNING *;

-- Another life of the same id: totals are kept.
-- name: session.revive
UPDATE agent_sessions
   SET domain = :domain, vm_identifier = :vm_identifier, status = :status, current_story_id = NULL, current_gate = NULL,
       last_heartbeat = :now, started_at = :now, ended_at = NULL, epoch = :epoch, launched_by = :launched_by,
       ttl_seconds = :ttl_seconds, lease_until = :lease_until, last_progress = :now
 WHERE agent_id = :agent_id AND epoch = :epoch - 1
RETURNING *;

-- name: session.save
UPDATE agent_sessions
   SET status = :status, current_story_id = :current_story_id, current_gate = :current_gate, ended_at = :ended_at,
       total_stories_completed = :total_stories_completed, last_progress = :last_progress
 WHERE agent_id = :agent_id AND epoch = :epoch
RETURNING id, status, current_story_id, current_gate, ended_at, total_stories_completed, last_progress;

-- Left out of the log: it is every command of every agent. The session, if it is live (and of that epoch).
-- name: session.renew
UPDATE agent_sessions
   SET last_heartbeat = MAX(last_heartbeat, :now),
       lease_until = MAX(lease_until, strftime('%Y-%m-%dT%H:%M:%S', substr(:now, 1, 19), '+' || ttl_seconds || ' seconds')
                                      || substr(:now, 20))
 WHERE agent_id = :agent_id AND (:epoch IS NULL OR epoch = :epoch) AND status <> 'terminated' AND lease_until > :now
RETURNING *;

-- name: session.renew@postgres
UPDATE agent_sessions
   SET last_heartbeat = GREATEST(last_heartbeat, CAST(:now AS TIMESTAMPTZ)),
       lease_until = GREATEST(lease_until, CAST(:now AS TIMESTAMPTZ) + ttl_seconds * INTERVAL '1 second')
 WHERE agent_id = :agent_id AND epoch = COALESCE(CAST(:epoch AS INTEGER), epoch) AND status <> 'terminated'
   AND lease_until > :now
RETURNING *;

-- name: session.expired
SELECT * FROM agent_sessions WHERE status <> 'terminated' AND lease_until <= :now ORDER BY lease_until {for_update};

-- name: session.live
SELECT * FROM agent_sessions WHERE status <> 'terminated' AND lease_until > :now ORDER BY agent_id;

-- name: session.live_of_role
SELECT * FROM agent_sessions
 WHERE status <> 'terminated' AND lease_until > :now AND agent_type = :agent_type ORDER BY agent_id;

-- name: epoch.insert
INSERT INTO agent_epochs (id, agent_id, epoch, agent_type, domain, vm_identifier, launched_by, started_at)
VALUES (:id, :agent_id, :epoch, :agent_type, :domain, :vm_identifier, :launched_by, :now)
RETURNING *;

-- name: epoch.end
UPDATE agent_epochs SET ended_at = :ended_at, end_reason = :end_reason
 WHERE agent_id = :agent_id AND epoch = :epoch AND ended_at IS NULL
RETURNING id, ended_at, end_reason;

-- name: epoch.list
SELECT * FROM agent_epochs WHERE agent_id = :agent_id ORDER BY epoch;
