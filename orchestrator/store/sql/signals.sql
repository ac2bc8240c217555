-- Signals and their deliveries.

-- name: signal.insert
INSERT INTO signals (id, signal_type, from_agent, to_agent, story_id, wave_id, payload, status, priority, expires_at,
                     processed_at, created_at, cause_id, chain_depth)
VALUES (:id, :signal_type, :from_agent, :to_agent, :story_id, :wave_id, :payload, :status, :priority, :expires_at,
        :processed_at, :now, :cause_id, :chain_depth)
RETURNING *;

-- name: delivery.insert
INSERT INTO signal_deliveries (id, signal_id, kind, addressee, status, priority, sent_at)
VALUES (:id, :signal_id, :kind, :addressee, :status, :priority, :now)
RETURNING *;

-- name: signal.get
SELECT s.*, t.story_code, w.wave_code FROM signals s
  LEFT JOIN stories t ON t.id = s.story_id LEFT JOIN waves w ON w.id = s.wave_id WHERE s.id = :id;

-- name: signal.lock
SELECT id, signal_type, from_agent, story_id, status, chain_depth, expires_at FROM signals WHERE id = :id {for_update};

-- name: signal.list
SELECT s.*, t.story_code, w.wave_code FROM signals s
  LEFT JOIN stories t ON t.id = s.story_id LEFT JOIN waves w ON w.id = s.wave_id
 ORDER BY s.created_at DESC, s.id DESC LIMIT :size;

-- name: delivery.of_signal
SELECT * FROM signal_deliveries WHERE signal_id = :signal_id ORDER BY addressee;

-- name: delivery.inbox
SELECT d.id AS delivery_id, d.kind, d.addressee, d.status, d.sent_at, d.delivered_at, d.redeliveries,
       s.id, s.signal_type, s.from_agent, s.to_agent, s.story_id, s.wave_id, s.payload, s.priority, s.created_at,
       s.cause_id, s.expires_at, t.story_code, w.wave_code
  FROM signal_deliveries d JOIN signals s ON s.id = d.signal_id
  LEFT JOIN stories t ON t.id = s.story_id LEFT JOIN waves w ON w.id = s.wave_id
 WHERE d.status = 'pending' AND d.addressee {any:addressees} AND (s.expires_at IS NULL OR s.expires_at > :now)
 ORDER BY d.priority, d.sent_at, d.id LIMIT :size;

-- name: delivery.taken
SELECT d.id AS delivery_id, d.kind, d.addressee, d.status, d.sent_at, d.delivered_at, d.redeliveries,
       s.id, s.signal_type, s.from_agent, s.to_agent, s.story_id, s.wave_id, s.payload, s.priority, s.created_at,
       s.cause_id, s.expires_at, t.story_code, w.wave_code
  FROM signal_deliveries d JOIN signals s ON s.id = d.signal_id
  LEFT JOIN stories t ON t.id = s.story_id LEFT JOIN waves w ON w.id = s.wave_id
 WHERE d.status = 'acknowledged' AND d.taken_by = :agent_id
 ORDER BY d.priority, d.sent_at, d.id LIMIT :size;

-- Put before the agent: a delivery mark, left out of the log.
-- name: delivery.seen
UPDATE signal_deliveries SET delivered_at = :now WHERE id {any_id:ids} AND delivered_at IS NULL;

-- Exactly one wins.
-- name: delivery.acknowledge
UPDATE signal_deliveries SET status = 'acknowledged', taken_by = :agent_id, acknowledged_at = :now
 WHERE signal_id = :signal_id AND status = 'pending' AND addressee {any:addressees}
RETURNING id, status, taken_by, acknowledged_at;

-- name: delivery.process
UPDATE signal_deliveries SET status = 'processed', processed_at = :now
 WHERE signal_id = :signal_id AND status = 'acknowledged' AND taken_by = :agent_id
RETURNING id, status, processed_at;

-- A lifecycle signal that the action it asked for has answered, whoever took it.
-- name: delivery.answer
UPDATE signal_deliveries
   SET status = 'processed', taken_by = COALESCE(taken_by, :agent_id),
       acknowledged_at = COALESCE(acknowledged_at, :now), processed_at = :now
 WHERE signal_id = :signal_id AND status IN ('pending', 'acknowledged')
RETURNING id, status, taken_by, acknowledged_at, processed_at;

-- name: delivery.expire
UPDATE signal_deliveries SET status = 'expired', expired_at = :now
 WHERE signal_id = :signal_id AND status IN ('pending', 'acknowledged')
RETURNING id, status, expired_at;

-- name: delivery.taken_raw
SELECT id, signal_id, kind FROM signal_deliveries WHERE status = 'acknowledged' AND taken_by = :agent_id ORDER BY id;

-- name: delivery.give_back
UPDATE signal_deliveries SET status = 'pending', taken_by = NULL, acknowledged_at = NULL, redeliveries = redeliveries + 1
 WHERE id = :id AND status = 'acknowledged'
RETURNING id, status, taken_by, acknowledged_at, redeliveries;

-- name: delivery.expire_one
UPDATE signal_deliveries SET status = 'expired', expired_at = :now WHERE id = :id AND status = 'acknowledged'
RETURNING id, status, expired_at;

-- A signal's own row shows its least advanced delivery (lifecycle.STATUS_RANK).
-- name: signal.state
SELECT s.id, s.status, s.acknowledged_at, s.processed_at,
       MIN(CASE d.status WHEN 'pending' THEN 0 WHEN 'acknowledged' THEN 1 WHEN 'expired' THEN 2 ELSE 3 END) AS rank,
       MAX(d.acknowledged_at) AS last_acknowledged, MAX(d.processed_at) AS last_processed
  FROM signals s JOIN signal_deliveries d ON d.signal_id = s.id
 WHERE s.id = :id GROUP BY s.id, s.status, s.acknowledged_at, s.processed_at;

-- name: signal.save
UPDATE signals SET status = :status, acknowledged_at = :acknowledged_at, processed_at = :processed_at WHERE id = :id
RETURNING id, status, acknowledged_at, processed_at;

-- name: signal.open_of_story
SELECT id, signal_type, from_agent, to_agent, status, acknowledged_at, processed_at FROM signals
 WHERE story_id = :story_id AND status IN ('pending', 'acknowledged') ORDER BY created_at, id;

-- name: signal.due
SELECT id FROM signals WHERE expires_at IS NOT NULL AND status IN ('pending', 'acknowledged') AND expires_at <= :now
 ORDER BY expires_at;

-- name: signal.sent_since
SELECT COUNT(*) AS sent FROM signals WHERE from_agent = :agent_id AND created_at > :since;
