-- maf: the store, for Postgres (13 or newer). Applied by `maf init`, or: psql -f schema_postgres.sql
--
-- Its twin is schema_sqlite.sql: the same tables, columns, defaults, checks and indexes in the same order, held
-- together by a test. The first seven tables keep the names and meanings of the specification that started maf, so
-- that anyone's SQL over them works; what goes beyond it is marked "extension" with its reason.
--
-- Types: ids are UUID; times are TIMESTAMPTZ, written in UTC; JSON is JSONB. SQLite's file says the same with TEXT and
-- CHECKs. Apply it in the schema of your choice (search_path); maf takes the one that its connection shows.
--
-- Every change of a row here is also in agent_activity, in the same transaction; replaying that log from empty gives
-- these tables row for row. To write by hand is therefore to lie to the log: read freely, write through maf.

BEGIN;

-- Which schema this is; one row for each version ever applied. (extension: a newer maf must be recognised)
CREATE TABLE schema_version (
    version     INTEGER PRIMARY KEY,
    applied_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);
INSERT INTO schema_version (version) VALUES (1);

-- A wave: stories that run in parallel. It starts when the waves it waits for are completed.
CREATE TABLE waves (
    id            UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    wave_code     VARCHAR(50) NOT NULL UNIQUE,
    name          VARCHAR(255) NOT NULL,
    description   TEXT,
    status        VARCHAR(50) NOT NULL DEFAULT 'planning'
                  CHECK (status IN ('planning', 'active', 'paused', 'completed', 'failed')),
    priority      INTEGER DEFAULT 1,
    started_at    TIMESTAMPTZ,
    completed_at  TIMESTAMPTZ,
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- extension: a plan may say that a wave waits for a person's `maf wave start`
    start_mode    VARCHAR(10) NOT NULL DEFAULT 'auto' CHECK (start_mode IN ('auto', 'manual'))
);

-- A story: one piece of work, one branch, one merge. current_gate is the gate it stands before; 8 is merged.
CREATE TABLE stories (
    id                   UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    wave_id              UUID REFERENCES waves (id),
    story_code           VARCHAR(50) NOT NULL UNIQUE,
    title                VARCHAR(255) NOT NULL,
    description          TEXT,
    acceptance_criteria  JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(acceptance_criteria) = 'array'),
    domain               VARCHAR(50) NOT NULL,
    story_type           VARCHAR(50) DEFAULT 'feature',
    priority             INTEGER DEFAULT 1,
    story_points         INTEGER DEFAULT 1,
    assigned_agent       VARCHAR(100),
    assigned_at          TIMESTAMPTZ,
    status               VARCHAR(50) NOT NULL DEFAULT 'backlog'
                         CHECK (status IN ('backlog', 'ready', 'assigned', 'in_progress', 'qa_review', 'pm_review',
                                           'completed', 'failed')),
    current_gate         INTEGER NOT NULL DEFAULT 0 CHECK (current_gate BETWEEN 0 AND 8),
    branch_name          VARCHAR(255),
    started_at           TIMESTAMPTZ,
    completed_at         TIMESTAMPTZ,
    created_at           TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at           TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- extension: the fencing token of the latest assignment; a write with an older one is refused
    fencing_token        INTEGER NOT NULL DEFAULT 0,
    -- extension: where the branch was forked, to tell the story's own commits from the target's
    base_commit          VARCHAR(64),
    -- extension: submit fixes the commit that gates 4 to 7 are about
    submitted_commit     VARCHAR(64),
    -- extension: its place in the merge queue, kept over rejections so that nobody starves
    first_submitted_at   TIMESTAMPTZ,
    -- extension: what an importer found beside the fields above
    metadata             JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object')
);
CREATE INDEX stories_by_wave ON stories (wave_id, status);
-- In exactly the order of `story next`, so that a claim reads one row however long the history is.
CREATE INDEX stories_ready ON stories (priority, created_at, id) WHERE status = 'ready';
CREATE INDEX stories_ready_by_domain ON stories (domain, priority, created_at, id) WHERE status = 'ready';
CREATE INDEX stories_held ON stories (assigned_agent) WHERE status IN ('assigned', 'in_progress');

-- A message. Its status is that of its least advanced delivery.
CREATE TABLE signals (
    id               UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    signal_type      VARCHAR(100) NOT NULL
                     CHECK (signal_type IN ('story_approved', 'story_assigned', 'ready_for_qa', 'qa_approved',
                                            'qa_rejected', 'ready_for_merge', 'merge_complete', 'blocked',
                                            'help_needed', 'wave_started', 'wave_completed', 'pm_rejected',
                                            'merge_rejected', 'story_released', 'story_failed', 'answer',
                                            'wave_paused', 'wave_resumed', 'wave_failed', 'emergency_stop')),
    from_agent       VARCHAR(100) NOT NULL,
    to_agent         VARCHAR(100),
    story_id         UUID REFERENCES stories (id),
    wave_id          UUID REFERENCES waves (id),
    payload          JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(payload) = 'object'),
    status           VARCHAR(50) NOT NULL DEFAULT 'pending'
                     CHECK (status IN ('pending', 'acknowledged', 'processed', 'expired')),
    priority         INTEGER DEFAULT 1,
    expires_at       TIMESTAMPTZ,
    acknowledged_at  TIMESTAMPTZ,
    processed_at     TIMESTAMPTZ,
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- extension: what this answers, and how long the chain is, so that a storm of replies can be stopped
    cause_id         UUID REFERENCES signals (id),
    chain_depth      INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX signals_open_by_story ON signals (story_id) WHERE status IN ('pending', 'acknowledged');
CREATE INDEX signals_expiring ON signals (expires_at)
    WHERE expires_at IS NOT NULL AND status IN ('pending', 'acknowledged');
CREATE INDEX signals_pending ON signals (priority, created_at) WHERE status = 'pending';
CREATE INDEX signals_by_sender ON signals (from_agent, created_at);

-- An agent, alive or not; one row for an id for ever, its lives are in agent_epochs.
CREATE TABLE agent_sessions (
    id                       UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id                 VARCHAR(100) NOT NULL UNIQUE,
    agent_type               VARCHAR(50) NOT NULL CHECK (agent_type IN ('cto', 'pm', 'dev', 'qa')),
    domain                   VARCHAR(50),
    vm_identifier            VARCHAR(100),
    status                   VARCHAR(50) NOT NULL DEFAULT 'starting'
                             CHECK (status IN ('starting', 'active', 'idle', 'working', 'blocked', 'terminated')),
    current_story_id         UUID REFERENCES stories (id),
    current_gate             INTEGER,
    last_heartbeat           TIMESTAMPTZ NOT NULL DEFAULT now(),
    total_tokens_used        INTEGER NOT NULL DEFAULT 0,
    total_stories_completed  INTEGER NOT NULL DEFAULT 0,
    started_at               TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at                 TIMESTAMPTZ,
    -- extension: which life of this id; a call that carries an older one is refused
    epoch                    INTEGER NOT NULL DEFAULT 1,
    -- extension: who keeps it alive, which decides how long silence is borne
    launched_by              VARCHAR(10) NOT NULL DEFAULT 'hand' CHECK (launched_by IN ('hand', 'runner')),
    ttl_seconds              INTEGER NOT NULL DEFAULT 28800 CHECK (ttl_seconds > 0),
    -- extension: live until then by the store's clock; each heartbeat moves it
    lease_until              TIMESTAMPTZ NOT NULL DEFAULT (now() + INTERVAL '28800 seconds'),
    -- extension: does it move (a heartbeat only says that it is alive)
    last_progress            TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX sessions_live ON agent_sessions (lease_until) WHERE status != 'terminated';

-- The audit log. Append-only: triggers below refuse anything else. details.changes holds the rows as they became.
CREATE TABLE agent_activity (
    -- extension: the order of the log; taken while the rows it tells of are still locked
    seq            BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    id             UUID NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    agent_id       VARCHAR(100) NOT NULL,
    activity_type  VARCHAR(100) NOT NULL,
    story_id       UUID REFERENCES stories (id),
    details        JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(details) = 'object'),
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX activity_by_story ON agent_activity (story_id, seq);
CREATE INDEX activity_by_agent ON agent_activity (agent_id, seq);
CREATE FUNCTION agent_activity_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'agent_activity is append-only' USING ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TRIGGER agent_activity_no_update BEFORE UPDATE ON agent_activity
FOR EACH ROW EXECUTE FUNCTION agent_activity_append_only();
CREATE TRIGGER agent_activity_no_delete BEFORE DELETE ON agent_activity
FOR EACH ROW EXECUTE FUNCTION agent_activity_append_only();

-- Each pass, reject and reset of a gate, with its evidence in metadata.
CREATE TABLE gate_transitions (
    id               UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    story_id         UUID NOT NULL REFERENCES stories (id),
    from_gate        INTEGER,
    to_gate          INTEGER NOT NULL CHECK (to_gate BETWEEN 0 AND 8),
    agent_id         VARCHAR(100) NOT NULL,
    transition_type  VARCHAR(50) NOT NULL CHECK (transition_type IN ('advance', 'reject', 'reset')),
    notes            TEXT,
    metadata         JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX gates_by_story ON gate_transitions (story_id, created_at, id);
-- A story is merged once.
CREATE UNIQUE INDEX gates_merged_once ON gate_transitions (story_id) WHERE to_gate = 8;

-- What QA found.
CREATE TABLE qa_reports (
    id                UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    story_id          UUID NOT NULL REFERENCES stories (id),
    qa_agent          VARCHAR(100) NOT NULL,
    verdict           VARCHAR(20) NOT NULL CHECK (verdict IN ('pass', 'fail')),
    findings          JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(findings) = 'array'),
    coverage_percent  INTEGER CHECK (coverage_percent BETWEEN 0 AND 100),
    created_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- extension: the commit that the verdict is about, and the checks' evidence
    commit_sha        VARCHAR(64),
    metadata          JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object')
);
CREATE INDEX qa_reports_by_story ON qa_reports (story_id, created_at);

-- extension: a wave waits for waves, a story for stories; together they form one graph without a cycle.
CREATE TABLE wave_dependencies (
    wave_id             UUID NOT NULL REFERENCES waves (id),
    depends_on_wave_id  UUID NOT NULL REFERENCES waves (id),
    created_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (wave_id, depends_on_wave_id),
    CHECK (wave_id <> depends_on_wave_id)
);
CREATE INDEX wave_dependencies_back ON wave_dependencies (depends_on_wave_id);

CREATE TABLE story_dependencies (
    story_id             UUID NOT NULL REFERENCES stories (id),
    depends_on_story_id  UUID NOT NULL REFERENCES stories (id),
    created_at           TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (story_id, depends_on_story_id),
    CHECK (story_id <> depends_on_story_id)
);
CREATE INDEX story_dependencies_back ON story_dependencies (depends_on_story_id);

-- extension: who holds a story, from assign to its end; the fencing token tells the holder from an earlier one.
CREATE TABLE assignments (
    id             UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    story_id       UUID NOT NULL REFERENCES stories (id),
    agent_id       VARCHAR(100) NOT NULL,
    epoch          INTEGER NOT NULL,
    fencing_token  INTEGER NOT NULL CHECK (fencing_token > 0),
    assigned_by    VARCHAR(100) NOT NULL,
    assigned_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at       TIMESTAMPTZ,
    end_reason     VARCHAR(50)
                   CHECK (end_reason IN ('completed', 'failed', 'released', 'expired', 'ended', 'stopped', 'takeover')),
    -- the lease that had run out, where end_reason is expired
    lease_until    TIMESTAMPTZ,
    UNIQUE (story_id, fencing_token)
);
CREATE UNIQUE INDEX assignments_one_open ON assignments (story_id) WHERE ended_at IS NULL;
CREATE INDEX assignments_open_by_agent ON assignments (agent_id) WHERE ended_at IS NULL;

-- extension: the lives of an agent id; who was live at a moment is read here.
CREATE TABLE agent_epochs (
    id             UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id       VARCHAR(100) NOT NULL,
    epoch          INTEGER NOT NULL,
    agent_type     VARCHAR(50) NOT NULL CHECK (agent_type IN ('cto', 'pm', 'dev', 'qa')),
    domain         VARCHAR(50),
    vm_identifier  VARCHAR(100),
    launched_by    VARCHAR(10) NOT NULL CHECK (launched_by IN ('hand', 'runner')),
    started_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at       TIMESTAMPTZ,
    end_reason     VARCHAR(50) CHECK (end_reason IN ('ended', 'expired', 'takeover', 'stopped')),
    UNIQUE (agent_id, epoch)
);

-- extension: one row for each addressee of a signal: an agent, or a role that exactly one agent of it takes.
CREATE TABLE signal_deliveries (
    id               UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    signal_id        UUID NOT NULL REFERENCES signals (id),
    kind             VARCHAR(10) NOT NULL CHECK (kind IN ('direct', 'role', 'broadcast')),
    addressee        VARCHAR(100) NOT NULL,
    status           VARCHAR(50) NOT NULL DEFAULT 'pending'
                     CHECK (status IN ('pending', 'acknowledged', 'processed', 'expired')),
    priority         INTEGER NOT NULL DEFAULT 1,
    sent_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- put before the agent for the first time
    delivered_at     TIMESTAMPTZ,
    taken_by         VARCHAR(100),
    acknowledged_at  TIMESTAMPTZ,
    processed_at     TIMESTAMPTZ,
    expired_at       TIMESTAMPTZ,
    redeliveries     INTEGER NOT NULL DEFAULT 0,
    UNIQUE (signal_id, addressee)
);
-- In exactly the order of the inbox: by priority, then by time sent.
CREATE INDEX deliveries_pending ON signal_deliveries (addressee, priority, sent_at, id) WHERE status = 'pending';
CREATE INDEX deliveries_taken ON signal_deliveries (taken_by, priority, sent_at, id) WHERE status = 'acknowledged';

-- extension: each process that the runner launched, so that attempts are counted and nothing is left behind.
CREATE TABLE agent_runs (
    id               UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id         VARCHAR(100) NOT NULL,
    epoch            INTEGER NOT NULL,
    agent_type       VARCHAR(50) NOT NULL CHECK (agent_type IN ('cto', 'pm', 'dev', 'qa')),
    story_id         UUID REFERENCES stories (id),
    fencing_token    INTEGER,
    attempt          INTEGER NOT NULL DEFAULT 1,
    vm_identifier    VARCHAR(100),
    pid              INTEGER,
    process_started  VARCHAR(100),
    log_path         TEXT,
    started_at       TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at         TIMESTAMPTZ,
    outcome          VARCHAR(50)
                     CHECK (outcome IN ('done', 'no_submit', 'failed', 'timeout', 'output_limit', 'not_started', 'lost',
                                        'stopped', 'interrupted')),
    exit_code        INTEGER,
    -- does it count as one of the story's attempts; one that maf's own death cut off does not
    counted          INTEGER NOT NULL DEFAULT 0 CHECK (counted IN (0, 1)),
    -- the budget that held when it started and what was spent of it, in millionths of a US dollar
    budget_microusd  BIGINT,
    spent_microusd   BIGINT
);
CREATE INDEX runs_by_story ON agent_runs (story_id, started_at);
CREATE INDEX runs_open ON agent_runs (agent_id) WHERE ended_at IS NULL;

-- extension: tokens and cost, one row for each report of an agent's run.
CREATE TABLE token_usage (
    id             UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_id       VARCHAR(100) NOT NULL,
    story_id       UUID REFERENCES stories (id),
    run_id         UUID REFERENCES agent_runs (id),
    model          VARCHAR(100),
    input_tokens   BIGINT NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
    output_tokens  BIGINT NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
    cached_tokens  BIGINT NOT NULL DEFAULT 0 CHECK (cached_tokens >= 0),
    cost_microusd  BIGINT CHECK (cost_microusd >= 0),
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX usage_by_story ON token_usage (story_id);

-- extension: the paths of each domain as gate 2 last judged by them (maf.toml says them; this is the record).
CREATE TABLE domain_ownership (
    domain      VARCHAR(50) PRIMARY KEY,
    owns        JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(owns) = 'array'),
    reads       JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(reads) = 'array'),
    forbidden   JSONB NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(forbidden) = 'array'),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- extension: emergency stops; nothing is launched in the scope of one until it is lifted.
CREATE TABLE emergency_stops (
    id           UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    scope        VARCHAR(10) NOT NULL CHECK (scope IN ('agent', 'domain', 'wave', 'all')),
    scope_value  VARCHAR(100),
    reason       TEXT NOT NULL,
    stopped_by   VARCHAR(100) NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    lifted_by    VARCHAR(100),
    lifted_at    TIMESTAMPTZ
);
CREATE INDEX stops_in_force ON emergency_stops (scope, scope_value) WHERE lifted_at IS NULL;

-- extension: a request that is sent again with its key gets the first one's result and does nothing more.
CREATE TABLE idempotency_keys (
    idempotency_key  VARCHAR(200) PRIMARY KEY,
    agent_id         VARCHAR(100) NOT NULL,
    use_case         VARCHAR(100) NOT NULL,
    request_digest   VARCHAR(64) NOT NULL,
    result           JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(result) = 'object'),
    created_at       TIMESTAMPTZ NOT NULL DEFAULT now()
);

COMMIT;
