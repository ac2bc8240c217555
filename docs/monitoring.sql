SELECT agent_id, status, current_gate, last_heartbeat FROM agent_sessions WHERE status != 'terminated';
SELECT story_code, status, current_gate, assigned_agent FROM stories WHERE status NOT IN ('completed', 'backlog');
SELECT signal_type, from_agent, to_agent, created_at FROM signals WHERE status = 'pending';
SELECT w.wave_code, COUNT(*) AS total_stories,
       SUM(CASE WHEN s.status = 'completed' THEN 1 ELSE 0 END) AS completed
  FROM waves w JOIN stories s ON s.wave_id = w.id WHERE w.status = 'active' GROUP BY w.wave_code;
