-- maf: the store, for SQLite (3.38 or newer). Applied by `maf init`, or: sqlite3 maf.db < schema_sqlite.sql
--
-- Its twin is schema_postgres.sql: the same tables, columns, defaults, checks and indexes in the same order, held
-- together by a test. The first seven tables keep the names and meanings of the specification that started maf, so
-- that anyone's SQL over them works; what goes beyond it is marked "extension" with its reason.
--
-- Types: ids are 36-character UUIDs; times are UTC text of fixed width, YYYY-MM-DDTHH:MM:SS.ffffffZ, so that they sort;
-- JSON is text that is checked; an INTEGER has 32 bits where Postgres's has. The CHECKs of form and length stand for the
-- types of the twin. Apply it with foreign keys on (PRAGMA foreign_keys = ON), which maf does at each open.
--
-- Every change of a row here is also in agent_activity, in the same transaction; replaying that log from empty gives
-- these tables row for row. To write by hand is therefore to lie to the log: read freely, write through maf.

BEGIN;

-- Which schema this is; one row for each version ever applied. (extension: a newer maf must be recognised)
CREATE TABLE schema_version (
    version     INTEGER PRIMARY KEY,
    applied_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                CHECK (applied_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                       AND substr(applied_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(applied_at, 1, 19), '+0 days'))
) STRICT;
INSERT INTO schema_version (version) VALUES (1);

-- A wave: stories that run in parallel. It starts when the waves it waits for are completed.
CREATE TABLE waves (
    id            TEXT PRIMARY KEY NOT NULL
                  DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                          || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                  CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                         AND id NOT GLOB '*[^0-9a-f-]*'),
    wave_code     TEXT NOT NULL UNIQUE CHECK (length(wave_code) <= 50),
    name          TEXT NOT NULL CHECK (length(name) <= 255),
    description   TEXT,
    status        TEXT NOT NULL DEFAULT 'planning'
                  CHECK (status IN ('planning', 'active', 'paused', 'completed', 'failed')),
    priority      INTEGER DEFAULT 1 CHECK (priority BETWEEN -2147483648 AND 2147483647),
    started_at    TEXT
                  CHECK (started_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                         AND substr(started_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(started_at, 1, 19), '+0 days')),
    completed_at  TEXT
                  CHECK (completed_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                         AND substr(completed_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(completed_at, 1, 19), '+0 days')),
    created_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                  CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                         AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days')),
    updated_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                  CHECK (updated_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                         AND substr(updated_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(updated_at, 1, 19), '+0 days')),
    -- extension: a plan may say that a wave waits for a person's `maf wave start`
    start_mode    TEXT NOT NULL DEFAULT 'auto' CHECK (start_mode IN ('auto', 'manual'))
) STRICT;

-- A story: one piece of work, one branch, one merge. current_gate is the gate it stands before; 8 is merged.
CREATE TABLE stories (
    id                   TEXT PRIMARY KEY NOT NULL
                         DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                                 || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                         CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                                AND id NOT GLOB '*[^0-9a-f-]*'),
    wave_id              TEXT REFERENCES waves (id),
    story_code           TEXT NOT NULL UNIQUE CHECK (length(story_code) <= 50),
    title                TEXT NOT NULL CHECK (length(title) <= 255),
    description          TEXT,
    acceptance_criteria  TEXT NOT NULL DEFAULT '[]'
                         CHECK (json_valid(acceptance_criteria) AND json_type(acceptance_criteria) = 'array'),
    domain               TEXT NOT NULL CHECK (length(domain) <= 50),
    story_type           TEXT DEFAULT 'feature' CHECK (length(story_type) <= 50),
    priority             INTEGER DEFAULT 1 CHECK (priority BETWEEN -2147483648 AND 2147483647),
    story_points         INTEGER DEFAULT 1 CHECK (story_points BETWEEN -2147483648 AND 2147483647),
    assigned_agent       TEXT CHECK (length(assigned_agent) <= 100),
    assigned_at          TEXT
                         CHECK (assigned_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                AND substr(assigned_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(assigned_at, 1, 19), '+0 days')),
    status               TEXT NOT NULL DEFAULT 'backlog'
                         CHECK (status IN ('backlog', 'ready', 'assigned', 'in_progress', 'qa_review', 'pm_review',
                                           'completed', 'failed')),
    current_gate         INTEGER NOT NULL DEFAULT 0 CHECK (current_gate BETWEEN 0 AND 8),
    branch_name          TEXT CHECK (length(branch_name) <= 255),
    started_at           TEXT
                         CHECK (started_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                AND substr(started_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(started_at, 1, 19), '+0 days')),
    completed_at         TEXT
                         CHECK (completed_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                AND substr(completed_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(completed_at, 1, 19), '+0 days')),
    created_at           TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                         CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days')),
    updated_at           TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                         CHECK (updated_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                AND substr(updated_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(updated_at, 1, 19), '+0 days')),
    -- extension: the fencing token of the latest assignment; a write with an older one is refused
    fencing_token        INTEGER NOT NULL DEFAULT 0 CHECK (fencing_token BETWEEN -2147483648 AND 2147483647),
    -- extension: where the branch was forked, to tell the story's own commits from the target's
    base_commit          TEXT CHECK (length(base_commit) <= 64),
    -- extension: submit fixes the commit that gates 4 to 7 are about
    submitted_commit     TEXT CHECK (length(submitted_commit) <= 64),
    -- extension: its place in the merge queue, kept over rejections so that nobody starves
    first_submitted_at   TEXT
                         CHECK (first_submitted_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                AND substr(first_submitted_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(first_submitted_at, 1, 19), '+0 days')),
    -- extension: what an importer found beside the fields above
    metadata             TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata) AND json_type(metadata) = 'object')
) STRICT;
CREATE INDEX stories_by_wave ON stories (wave_id, status);
-- In exactly the order of `story next`, so that a claim reads one row however long the history is.
CREATE INDEX stories_ready ON stories (priority, created_at, id) WHERE status = 'ready';
CREATE INDEX stories_ready_by_domain ON stories (domain, priority, created_at, id) WHERE status = 'ready';
CREATE INDEX stories_held ON stories (assigned_agent) WHERE status IN ('assigned', 'in_progress');

-- A message. Its status is that of its least advanced delivery.
CREATE TABLE signals (
    id               TEXT PRIMARY KEY NOT NULL
                     DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                             || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                     CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                            AND id NOT GLOB '*[^0-9a-f-]*'),
    signal_type      TEXT NOT NULL
                     CHECK (signal_type IN ('story_approved', 'story_assigned', 'ready_for_qa', 'qa_approved',
                                            'qa_rejected', 'ready_for_merge', 'merge_complete', 'blocked',
                                            'help_needed', 'wave_started', 'wave_completed', 'pm_rejected',
                                            'merge_rejected', 'story_released', 'story_failed', 'answer',
                                            'wave_paused', 'wave_resumed', 'wave_failed', 'emergency_stop')),
    from_agent       TEXT NOT NULL CHECK (length(from_agent) <= 100),
    to_agent         TEXT CHECK (length(to_agent) <= 100),
    story_id         TEXT REFERENCES stories (id),
    wave_id          TEXT REFERENCES waves (id),
    payload          TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(payload) AND json_type(payload) = 'object'),
    status           TEXT NOT NULL DEFAULT 'pending'
                     CHECK (status IN ('pending', 'acknowledged', 'processed', 'expired')),
    priority         INTEGER DEFAULT 1 CHECK (priority BETWEEN -2147483648 AND 2147483647),
    expires_at       TEXT
                     CHECK (expires_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(expires_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(expires_at, 1, 19), '+0 days')),
    acknowledged_at  TEXT
                     CHECK (acknowledged_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(acknowledged_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(acknowledged_at, 1, 19), '+0 days')),
    processed_at     TEXT
                     CHECK (processed_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(processed_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(processed_at, 1, 19), '+0 days')),
    created_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                     CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days')),
    -- extension: what this answers, and how long the chain is, so that a storm of replies can be stopped
    cause_id         TEXT REFERENCES signals (id),
    chain_depth      INTEGER NOT NULL DEFAULT 0 CHECK (chain_depth BETWEEN -2147483648 AND 2147483647)
) STRICT;
CREATE INDEX signals_open_by_story ON signals (story_id) WHERE status IN ('pending', 'acknowledged');
CREATE INDEX signals_expiring ON signals (expires_at)
    WHERE expires_at IS NOT NULL AND status IN ('pending', 'acknowledged');
CREATE INDEX signals_pending ON signals (priority, created_at) WHERE status = 'pending';
CREATE INDEX signals_by_sender ON signals (from_agent, created_at);

-- An agent, alive or not; one row for an id for ever, its lives are in agent_epochs.
CREATE TABLE agent_sessions (
    id                       TEXT PRIMARY KEY NOT NULL
                             DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                                     || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                             CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                                    AND id NOT GLOB '*[^0-9a-f-]*'),
    agent_id                 TEXT NOT NULL UNIQUE CHECK (length(agent_id) <= 100),
    agent_type               TEXT NOT NULL CHECK (agent_type IN ('cto', 'pm', 'dev', 'qa')),
    domain                   TEXT CHECK (length(domain) <= 50),
    vm_identifier            TEXT CHECK (length(vm_identifier) <= 100),
    status                   TEXT NOT NULL DEFAULT 'starting'
                             CHECK (status IN ('starting', 'active', 'idle', 'working', 'blocked', 'terminated')),
    current_story_id         TEXT REFERENCES stories (id),
    current_gate             INTEGER CHECK (current_gate BETWEEN -2147483648 AND 2147483647),
    last_heartbeat           TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                             CHECK (last_heartbeat GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                    AND substr(last_heartbeat, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(last_heartbeat, 1, 19), '+0 days')),
    total_tokens_used        INTEGER NOT NULL DEFAULT 0 CHECK (total_tokens_used BETWEEN -2147483648 AND 2147483647),
    total_stories_completed  INTEGER NOT NULL DEFAULT 0 CHECK (total_stories_completed BETWEEN -2147483648 AND 2147483647),
    started_at               TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                             CHECK (started_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                    AND substr(started_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(started_at, 1, 19), '+0 days')),
    ended_at                 TEXT
                             CHECK (ended_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                    AND substr(ended_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(ended_at, 1, 19), '+0 days')),
    -- extension: which life of this id; a call that carries an older one is refused
    epoch                    INTEGER NOT NULL DEFAULT 1 CHECK (epoch BETWEEN -2147483648 AND 2147483647),
    -- extension: who keeps it alive, which decides how long silence is borne
    launched_by              TEXT NOT NULL DEFAULT 'hand' CHECK (launched_by IN ('hand', 'runner')),
    ttl_seconds              INTEGER NOT NULL DEFAULT 28800 CHECK (ttl_seconds BETWEEN 1 AND 2147483647),
    -- extension: live until then by the store's clock; each heartbeat moves it
    lease_until              TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now', '+28800 seconds'))
                             CHECK (lease_until GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                    AND substr(lease_until, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(lease_until, 1, 19), '+0 days')),
    -- extension: does it move (a heartbeat only says that it is alive)
    last_progress            TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                             CHECK (last_progress GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                    AND substr(last_progress, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(last_progress, 1, 19), '+0 days'))
) STRICT;
CREATE INDEX sessions_live ON agent_sessions (lease_until) WHERE status != 'terminated';

-- The audit log. Append-only: triggers below refuse anything else. details.changes holds the rows as they became.
CREATE TABLE agent_activity (
    -- extension: the order of the log; taken while the rows it tells of are still locked
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE
                   DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                           || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                   CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                          AND id NOT GLOB '*[^0-9a-f-]*'),
    agent_id       TEXT NOT NULL CHECK (length(agent_id) <= 100),
    activity_type  TEXT NOT NULL CHECK (length(activity_type) <= 100),
    story_id       TEXT REFERENCES stories (id),
    details        TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(details) AND json_type(details) = 'object'),
    created_at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                   CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                          AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days'))
) STRICT;
CREATE INDEX activity_by_story ON agent_activity (story_id, seq);
CREATE INDEX activity_by_agent ON agent_activity (agent_id, seq);
CREATE TRIGGER agent_activity_no_update BEFORE UPDATE ON agent_activity
BEGIN SELECT RAISE(ABORT, 'agent_activity is append-only'); END;
CREATE TRIGGER agent_activity_no_delete BEFORE DELETE ON agent_activity
BEGIN SELECT RAISE(ABORT, 'agent_activity is append-only'); END;

-- Each pass, reject and reset of a gate, with its evidence in metadata.
CREATE TABLE gate_transitions (
    id               TEXT PRIMARY KEY NOT NULL
                     DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                             || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                     CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                            AND id NOT GLOB '*[^0-9a-f-]*'),
    story_id         TEXT NOT NULL REFERENCES stories (id),
    from_gate        INTEGER CHECK (from_gate BETWEEN -2147483648 AND 2147483647),
    to_gate          INTEGER NOT NULL CHECK (to_gate BETWEEN 0 AND 8),
    agent_id         TEXT NOT NULL CHECK (length(agent_id) <= 100),
    transition_type  TEXT NOT NULL CHECK (transition_type IN ('advance', 'reject', 'reset')),
    notes            TEXT,
    metadata         TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata) AND json_type(metadata) = 'object'),
    created_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                     CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days'))
) STRICT;
CREATE INDEX gates_by_story ON gate_transitions (story_id, created_at, id);
-- A story is merged once.
CREATE UNIQUE INDEX gates_merged_once ON gate_transitions (story_id) WHERE to_gate = 8;

-- What QA found.
CREATE TABLE qa_reports (
    id                TEXT PRIMARY KEY NOT NULL
                      DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                              || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                      CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                             AND id NOT GLOB '*[^0-9a-f-]*'),
    story_id          TEXT NOT NULL REFERENCES stories (id),
    qa_agent          TEXT NOT NULL CHECK (length(qa_agent) <= 100),
    verdict           TEXT NOT NULL CHECK (verdict IN ('pass', 'fail')),
    findings          TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(findings) AND json_type(findings) = 'array'),
    coverage_percent  INTEGER CHECK (coverage_percent BETWEEN 0 AND 100),
    created_at        TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                      CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                             AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days')),
    -- extension: the commit that the verdict is about, and the checks' evidence
    commit_sha        TEXT CHECK (length(commit_sha) <= 64),
    metadata          TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata) AND json_type(metadata) = 'object')
) STRICT;
CREATE INDEX qa_reports_by_story ON qa_reports (story_id, created_at);

-- extension: a wave waits for waves, a story for stories; together they form one graph without a cycle.
CREATE TABLE wave_dependencies (
    wave_id             TEXT NOT NULL REFERENCES waves (id),
    depends_on_wave_id  TEXT NOT NULL REFERENCES waves (id),
    created_at          TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                        CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                               AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days')),
    PRIMARY KEY (wave_id, depends_on_wave_id),
    CHECK (wave_id <> depends_on_wave_id)
) STRICT;
CREATE INDEX wave_dependencies_back ON wave_dependencies (depends_on_wave_id);

CREATE TABLE story_dependencies (
    story_id             TEXT NOT NULL REFERENCES stories (id),
    depends_on_story_id  TEXT NOT NULL REFERENCES stories (id),
    created_at           TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                         CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                                AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days')),
    PRIMARY KEY (story_id, depends_on_story_id),
    CHECK (story_id <> depends_on_story_id)
) STRICT;
CREATE INDEX story_dependencies_back ON story_dependencies (depends_on_story_id);

-- extension: who holds a story, from assign to its end; the fencing token tells the holder from an earlier one.
CREATE TABLE assignments (
    id             TEXT PRIMARY KEY NOT NULL
                   DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                           || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                   CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                          AND id NOT GLOB '*[^0-9a-f-]*'),
    story_id       TEXT NOT NULL REFERENCES stories (id),
    agent_id       TEXT NOT NULL CHECK (length(agent_id) <= 100),
    epoch          INTEGER NOT NULL CHECK (epoch BETWEEN -2147483648 AND 2147483647),
    fencing_token  INTEGER NOT NULL CHECK (fencing_token BETWEEN 1 AND 2147483647),
    assigned_by    TEXT NOT NULL CHECK (length(assigned_by) <= 100),
    assigned_at    TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                   CHECK (assigned_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                          AND substr(assigned_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(assigned_at, 1, 19), '+0 days')),
    ended_at       TEXT
                   CHECK (ended_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                          AND substr(ended_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(ended_at, 1, 19), '+0 days')),
    end_reason     TEXT
                   CHECK (end_reason IN ('completed', 'failed', 'released', 'expired', 'ended', 'stopped', 'takeover')),
    -- the lease that had run out, where end_reason is expired
    lease_until    TEXT
                   CHECK (lease_until GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                          AND substr(lease_until, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(lease_until, 1, 19), '+0 days')),
    UNIQUE (story_id, fencing_token)
) STRICT;
CREATE UNIQUE INDEX assignments_one_open ON assignments (story_id) WHERE ended_at IS NULL;
CREATE INDEX assignments_open_by_agent ON assignments (agent_id) WHERE ended_at IS NULL;

-- extension: the lives of an agent id; who was live at a moment is read here.
CREATE TABLE agent_epochs (
    id             TEXT PRIMARY KEY NOT NULL
                   DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                           || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                   CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                          AND id NOT GLOB '*[^0-9a-f-]*'),
    agent_id       TEXT NOT NULL CHECK (length(agent_id) <= 100),
    epoch          INTEGER NOT NULL CHECK (epoch BETWEEN -2147483648 AND 2147483647),
    agent_type     TEXT NOT NULL CHECK (agent_type IN ('cto', 'pm', 'dev', 'qa')),
    domain         TEXT CHECK (length(domain) <= 50),
    vm_identifier  TEXT CHECK (length(vm_identifier) <= 100),
    launched_by    TEXT NOT NULL CHECK (launched_by IN ('hand', 'runner')),
    started_at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                   CHECK (started_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                          AND substr(started_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(started_at, 1, 19), '+0 days')),
    ended_at       TEXT
                   CHECK (ended_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                          AND substr(ended_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(ended_at, 1, 19), '+0 days')),
    end_reason     TEXT CHECK (end_reason IN ('ended', 'expired', 'takeover', 'stopped')),
    UNIQUE (agent_id, epoch)
) STRICT;

-- extension: one row for each addressee of a signal: an agent, or a role that exactly one agent of it takes.
CREATE TABLE signal_deliveries (
    id               TEXT PRIMARY KEY NOT NULL
                     DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                             || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                     CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                            AND id NOT GLOB '*[^0-9a-f-]*'),
    signal_id        TEXT NOT NULL REFERENCES signals (id),
    kind             TEXT NOT NULL CHECK (kind IN ('direct', 'role', 'broadcast')),
    addressee        TEXT NOT NULL CHECK (length(addressee) <= 100),
    status           TEXT NOT NULL DEFAULT 'pending'
                     CHECK (status IN ('pending', 'acknowledged', 'processed', 'expired')),
    priority         INTEGER NOT NULL DEFAULT 1 CHECK (priority BETWEEN -2147483648 AND 2147483647),
    sent_at          TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                     CHECK (sent_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(sent_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(sent_at, 1, 19), '+0 days')),
    -- put before the agent for the first time
    delivered_at     TEXT
                     CHECK (delivered_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(delivered_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(delivered_at, 1, 19), '+0 days')),
    taken_by         TEXT CHECK (length(taken_by) <= 100),
    acknowledged_at  TEXT
                     CHECK (acknowledged_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(acknowledged_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(acknowledged_at, 1, 19), '+0 days')),
    processed_at     TEXT
                     CHECK (processed_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(processed_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(processed_at, 1, 19), '+0 days')),
    expired_at       TEXT
                     CHECK (expired_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(expired_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(expired_at, 1, 19), '+0 days')),
    redeliveries     INTEGER NOT NULL DEFAULT 0 CHECK (redeliveries BETWEEN -2147483648 AND 2147483647),
    UNIQUE (signal_id, addressee)
) STRICT;
-- In exactly the order of the inbox: by priority, then by time sent.
CREATE INDEX deliveries_pending ON signal_deliveries (addressee, priority, sent_at, id) WHERE status = 'pending';
CREATE INDEX deliveries_taken ON signal_deliveries (taken_by, priority, sent_at, id) WHERE status = 'acknowledged';

-- extension: each process that the runner launched, so that attempts are counted and nothing is left behind.
CREATE TABLE agent_runs (
    id               TEXT PRIMARY KEY NOT NULL
                     DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                             || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                     CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                            AND id NOT GLOB '*[^0-9a-f-]*'),
    agent_id         TEXT NOT NULL CHECK (length(agent_id) <= 100),
    epoch            INTEGER NOT NULL CHECK (epoch BETWEEN -2147483648 AND 2147483647),
    agent_type       TEXT NOT NULL CHECK (agent_type IN ('cto', 'pm', 'dev', 'qa')),
    story_id         TEXT REFERENCES stories (id),
    fencing_token    INTEGER CHECK (fencing_token BETWEEN -2147483648 AND 2147483647),
    attempt          INTEGER NOT NULL DEFAULT 1 CHECK (attempt BETWEEN -2147483648 AND 2147483647),
    vm_identifier    TEXT CHECK (length(vm_identifier) <= 100),
    pid              INTEGER CHECK (pid BETWEEN -2147483648 AND 2147483647),
    process_started  TEXT CHECK (length(process_started) <= 100),
    log_path         TEXT,
    started_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                     CHECK (started_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(started_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(started_at, 1, 19), '+0 days')),
    ended_at         TEXT
                     CHECK (ended_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(ended_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(ended_at, 1, 19), '+0 days')),
    outcome          TEXT
                     CHECK (outcome IN ('done', 'no_submit', 'failed', 'timeout', 'output_limit', 'not_started', 'lost',
                                        'stopped', 'interrupted')),
    exit_code        INTEGER CHECK (exit_code BETWEEN -2147483648 AND 2147483647),
    -- does it count as one of the story's attempts; one that maf's own death cut off does not
    counted          INTEGER NOT NULL DEFAULT 0 CHECK (counted IN (0, 1)),
    -- the budget that held when it started and what was spent of it, in millionths of a US dollar
    budget_microusd  INTEGER,
    spent_microusd   INTEGER
) STRICT;
CREATE INDEX runs_by_story ON agent_runs (story_id, started_at);
CREATE INDEX runs_open ON agent_runs (agent_id) WHERE ended_at IS NULL;

-- extension: tokens and cost, one row for each report of an agent's run.
CREATE TABLE token_usage (
    id             TEXT PRIMARY KEY NOT NULL
                   DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                           || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                   CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                          AND id NOT GLOB '*[^0-9a-f-]*'),
    agent_id       TEXT NOT NULL CHECK (length(agent_id) <= 100),
    story_id       TEXT REFERENCES stories (id),
    run_id         TEXT REFERENCES agent_runs (id),
    model          TEXT CHECK (length(model) <= 100),
    input_tokens   INTEGER NOT NULL DEFAULT 0 CHECK (input_tokens >= 0),
    output_tokens  INTEGER NOT NULL DEFAULT 0 CHECK (output_tokens >= 0),
    cached_tokens  INTEGER NOT NULL DEFAULT 0 CHECK (cached_tokens >= 0),
    cost_microusd  INTEGER CHECK (cost_microusd >= 0),
    created_at     TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                   CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                          AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days'))
) STRICT;
CREATE INDEX usage_by_story ON token_usage (story_id);

-- extension: the paths of each domain as gate 2 last judged by them (maf.toml says them; this is the record).
CREATE TABLE domain_ownership (
    domain      TEXT PRIMARY KEY NOT NULL CHECK (length(domain) <= 50),
    owns        TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(owns) AND json_type(owns) = 'array'),
    reads       TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(reads) AND json_type(reads) = 'array'),
    forbidden   TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(forbidden) AND json_type(forbidden) = 'array'),
    updated_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                CHECK (updated_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                       AND substr(updated_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(updated_at, 1, 19), '+0 days'))
) STRICT;

-- extension: emergency stops; nothing is launched in the scope of one until it is lifted.
CREATE TABLE emergency_stops (
    id           TEXT PRIMARY KEY NOT NULL
                 DEFAULT (lower(hex(randomblob(4)) || '-' || hex(randomblob(2))
                         || '-4' || substr(hex(randomblob(2)), 2) || '-a' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))))
                 CHECK (id GLOB '????????-????-????-????-????????????' AND length(replace(id, '-', '')) = 32
                        AND id NOT GLOB '*[^0-9a-f-]*'),
    scope        TEXT NOT NULL CHECK (scope IN ('agent', 'domain', 'wave', 'all')),
    scope_value  TEXT CHECK (length(scope_value) <= 100),
    reason       TEXT NOT NULL,
    stopped_by   TEXT NOT NULL CHECK (length(stopped_by) <= 100),
    created_at   TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                 CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                        AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days')),
    lifted_by    TEXT CHECK (length(lifted_by) <= 100),
    lifted_at    TEXT
                 CHECK (lifted_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                        AND substr(lifted_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(lifted_at, 1, 19), '+0 days'))
) STRICT;
CREATE INDEX stops_in_force ON emergency_stops (scope, scope_value) WHERE lifted_at IS NULL;

-- extension: a request that is sent again with its key gets the first one's result and does nothing more.
CREATE TABLE idempotency_keys (
    idempotency_key  TEXT PRIMARY KEY NOT NULL CHECK (length(idempotency_key) <= 200),
    agent_id         TEXT NOT NULL CHECK (length(agent_id) <= 100),
    use_case         TEXT NOT NULL CHECK (length(use_case) <= 100),
    request_digest   TEXT NOT NULL CHECK (length(request_digest) <= 64),
    result           TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(result) AND json_type(result) = 'object'),
    created_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
                     CHECK (created_at GLOB '????-??-??T??:??:??.[0-9][0-9][0-9][0-9][0-9][0-9]Z'
                            AND substr(created_at, 1, 19) IS strftime('%Y-%m-%dT%H:%M:%S', substr(created_at, 1, 19), '+0 days'))
) STRICT;

COMMIT;
