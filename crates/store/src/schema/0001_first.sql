-- Tenant first in every key. runs and session_heads are projections, rebuilt by `rebuild_projections`; the rest is truth.
-- Times are milliseconds, ids 16 bytes, digests 32; enums are the small numbers of `column_codes.rs`. A column `seal` has
-- eight bytes over the columns before it, by which damage of a row is seen that no journal repeats.

CREATE TABLE tenants (
    tenant   BLOB NOT NULL PRIMARY KEY,
    handle   TEXT NOT NULL UNIQUE,
    at       INTEGER NOT NULL,
    body_key BLOB NOT NULL,
    -- Since when it is suspended, if it is.
    suspended_at INTEGER,
    -- Since when it is being erased, if it is.
    erased_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX tenants_erased ON tenants (tenant) WHERE erased_at IS NOT NULL;

CREATE TABLE tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    tenant     BLOB NOT NULL,
    token      BLOB NOT NULL,
    name       TEXT NOT NULL,
    scopes     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX tokens_id ON tokens (tenant, token);
CREATE INDEX tokens_name ON tokens (tenant, name, token);

CREATE TABLE agents (
    tenant       BLOB NOT NULL,
    agent        BLOB NOT NULL,
    handle       TEXT NOT NULL,
    display_name TEXT NOT NULL,
    labels       TEXT,
    at           INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    revision     BLOB NOT NULL,
    number       INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX agents_handle ON agents (tenant, handle);
-- Few agents do anything but run; those that do are found without a walk over all.
CREATE INDEX agents_resting ON agents (tenant, state, agent) WHERE state <> 0;

-- pinned is 1 once a run began with the configuration: such a row stays as long as its agent. changed has the names of the
-- fields that differ from the revision before, with commas between them.
CREATE TABLE revisions (
    tenant  BLOB NOT NULL,
    agent   BLOB NOT NULL,
    number  INTEGER NOT NULL,
    digest  BLOB NOT NULL,
    at      INTEGER NOT NULL,
    author  TEXT,
    changed TEXT NOT NULL,
    key     TEXT,
    request BLOB,
    pinned  INTEGER NOT NULL,
    config  TEXT NOT NULL,
    PRIMARY KEY (tenant, agent, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX revisions_digest ON revisions (tenant, agent, digest, pinned);
CREATE INDEX revisions_loose ON revisions (tenant, agent, number) WHERE pinned = 0;
CREATE UNIQUE INDEX revisions_key ON revisions (tenant, agent, key) WHERE key IS NOT NULL;

-- origin says which call of which run opened a session for a child, as JSON, and parent_agent, parent_session, child_kind and root are of it; child_run is
-- the child, once it has begun, and open is 1 until it has ended.
CREATE TABLE sessions (
    tenant   BLOB NOT NULL,
    agent    BLOB NOT NULL,
    session  BLOB NOT NULL,
    platform TEXT NOT NULL,
    channel  TEXT NOT NULL,
    actor    TEXT NOT NULL,
    at       INTEGER NOT NULL,
    origin   TEXT,
    parent_agent BLOB,
    parent_session BLOB,
    child_kind INTEGER,
    root     BLOB,
    child_run BLOB,
    open     INTEGER,
    PRIMARY KEY (tenant, agent, session)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sessions_key ON sessions (tenant, agent, platform, channel, actor);
CREATE INDEX sessions_root ON sessions (tenant, root, session) WHERE root IS NOT NULL;
CREATE INDEX sessions_parent ON sessions (tenant, parent_session, session) WHERE parent_session IS NOT NULL;
CREATE INDEX sessions_open_parent ON sessions (tenant, parent_session, child_kind) WHERE open = 1;
CREATE INDEX sessions_open_children ON sessions (tenant, parent_agent) WHERE open = 1;

CREATE TABLE session_heads (
    tenant  BLOB NOT NULL,
    session BLOB NOT NULL,
    agent   BLOB NOT NULL,
    last    INTEGER NOT NULL,
    taken   INTEGER NOT NULL,
    active  BLOB,
    PRIMARY KEY (tenant, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX heads_pending ON session_heads (tenant, session) WHERE last > taken AND active IS NULL;

-- owner is a session or a run. digest covers the row but for taken_by, which the taker's journal states too.
CREATE TABLE inbox (
    tenant    BLOB NOT NULL,
    owner     BLOB NOT NULL,
    position  INTEGER NOT NULL,
    item      BLOB NOT NULL,
    at        INTEGER NOT NULL,
    kind      INTEGER NOT NULL,
    author    TEXT NOT NULL,
    digest    BLOB NOT NULL,
    taken_by  BLOB,
    key       TEXT,
    place     INTEGER NOT NULL,
    body      BLOB,
    body_hash BLOB,
    PRIMARY KEY (tenant, owner, position)
) STRICT, WITHOUT ROWID;

-- key is a caller's text, or the item's own id as a blob where it had to wait and no text was sent. expires_at is NULL
-- for a key that stays as long as its item.
CREATE TABLE keys (
    tenant     BLOB NOT NULL,
    key        ANY NOT NULL,
    item       BLOB NOT NULL,
    owner      BLOB NOT NULL,
    run        INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    request    BLOB,
    expires_at INTEGER,
    seal       BLOB NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_expiring ON keys (tenant, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE runs (
    tenant        BLOB NOT NULL,
    run           BLOB NOT NULL,
    agent         BLOB NOT NULL,
    session       BLOB NOT NULL,
    kind          INTEGER NOT NULL,
    status        INTEGER NOT NULL,
    wake_at       INTEGER,
    started_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    epoch         INTEGER NOT NULL,
    entry_epoch   INTEGER NOT NULL,
    chain         BLOB NOT NULL,
    model_calls   INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_micros   INTEGER NOT NULL,
    unpriced      INTEGER NOT NULL,
    signals_last  INTEGER NOT NULL,
    signals_taken INTEGER NOT NULL,
    -- The life of a process that works on it.
    holder        BLOB,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_agent ON runs (tenant, agent, run);
CREATE INDEX runs_session ON runs (tenant, session, run);
-- Statuses 0, 1 and 2 are running, parked and held.
CREATE INDEX runs_open ON runs (tenant, run) WHERE status <= 2;
-- Runs with a signal that no entry took.
CREATE INDEX runs_signalled ON runs (tenant, run) WHERE status <= 2 AND signals_last > signals_taken;
-- Statuses 2, 4 and 5 are held, yielded and failed: few of many runs, of which a person wants to know.
CREATE INDEX runs_troubled ON runs (tenant, status, updated_at, run) WHERE status IN (2, 4, 5);
CREATE INDEX runs_parked ON runs (wake_at) WHERE wake_at IS NOT NULL;

-- Epoch 1 is the claim that began the journal and has no row here.
CREATE TABLE claims (
    tenant BLOB NOT NULL,
    run    BLOB NOT NULL,
    epoch  INTEGER NOT NULL,
    holder BLOB NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, run, epoch)
) STRICT, WITHOUT ROWID;

-- The folded state of a run behind the entry seq, so that a takeover folds only what comes after it. The digest is that of the
-- journal up to there, of version and state. An engine whose fold has another version does not use it.
CREATE TABLE run_checkpoints (
    tenant  BLOB NOT NULL,
    run     BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state   BLOB NOT NULL,
    digest  BLOB NOT NULL,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;

-- Fields that can be packed are in packed, and fields is empty; others are in fields.
CREATE TABLE entries (
    tenant    BLOB NOT NULL,
    run       BLOB NOT NULL,
    seq       INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    epoch     INTEGER NOT NULL,
    kind      TEXT NOT NULL,
    version   INTEGER NOT NULL,
    fields    TEXT NOT NULL,
    chain     BLOB NOT NULL,
    place     INTEGER NOT NULL,
    body      BLOB,
    body_hash BLOB,
    packed    BLOB,
    PRIMARY KEY (tenant, run, seq)
) STRICT, WITHOUT ROWID;

-- bytes is NULL where the body is a file.
CREATE TABLE bodies (
    tenant BLOB NOT NULL,
    hash   BLOB NOT NULL,
    bytes  BLOB,
    PRIMARY KEY (tenant, hash)
) STRICT, WITHOUT ROWID;

-- owner and seq name an entry (inbox = 0) or an inbox item (inbox = 1).
CREATE TABLE body_refs (
    tenant BLOB NOT NULL,
    hash   BLOB NOT NULL,
    owner  BLOB NOT NULL,
    inbox  INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (tenant, hash, owner, inbox, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE pins (
    tenant BLOB NOT NULL,
    digest BLOB NOT NULL,
    bytes  BLOB NOT NULL,
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;

-- Whose runs name a pin, so that an erasure takes those that no other agent's run names.
CREATE TABLE pin_refs (
    tenant BLOB NOT NULL,
    digest BLOB NOT NULL,
    agent  BLOB NOT NULL,
    PRIMARY KEY (tenant, digest, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_refs_agent ON pin_refs (tenant, agent, digest);

-- write names the write of an entry, so that a repetition is known and two writers are never taken for one.
CREATE TABLE state (
    tenant  BLOB NOT NULL,
    session BLOB NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    value   BLOB NOT NULL,
    at      INTEGER NOT NULL,
    write   BLOB NOT NULL,
    seal    BLOB NOT NULL,
    PRIMARY KEY (tenant, session, name)
) STRICT, WITHOUT ROWID;

-- Messages on their way out, what came of each attempt, and the tenant's feed of them. Enums are the small numbers of
-- `column_codes.rs`: states 0 to 2 are open, 4 and 5 wait for a person. digest covers what never changes, body included.
CREATE TABLE deliveries (
    tenant     BLOB NOT NULL,
    delivery   BLOB NOT NULL,
    target     TEXT NOT NULL,
    position   INTEGER NOT NULL,
    agent      BLOB NOT NULL,
    session    BLOB NOT NULL,
    run        BLOB NOT NULL,
    seq        INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    reason     INTEGER,
    attempts   INTEGER NOT NULL,
    redrives   INTEGER NOT NULL,
    spent      INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    holder     BLOB,
    updated_at INTEGER NOT NULL,
    feed       INTEGER,
    digest     BLOB NOT NULL,
    body       BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX deliveries_id ON deliveries (tenant, delivery);
CREATE UNIQUE INDEX deliveries_target ON deliveries (tenant, target, position);
CREATE INDEX deliveries_agent ON deliveries (tenant, agent, delivery);
CREATE INDEX deliveries_session ON deliveries (tenant, session, state, delivery);
CREATE INDEX deliveries_open ON deliveries (tenant, target, position) WHERE state <= 2;
CREATE INDEX deliveries_stopped ON deliveries (tenant, delivery) WHERE state >= 4;
CREATE UNIQUE INDEX deliveries_feed ON deliveries (tenant, feed) WHERE feed IS NOT NULL;
CREATE INDEX deliveries_unnumbered ON deliveries (tenant, target, position) WHERE feed IS NULL;

CREATE TABLE delivery_attempts (
    tenant   BLOB NOT NULL,
    delivery BLOB NOT NULL,
    number   INTEGER NOT NULL,
    holder   BLOB NOT NULL,
    began_at INTEGER NOT NULL,
    ended_at INTEGER,
    outcome  INTEGER,
    status   INTEGER,
    detail   TEXT,
    receiver_id TEXT,
    seal     BLOB NOT NULL,
    PRIMARY KEY (tenant, delivery, number)
) STRICT, WITHOUT ROWID;

-- A number is never given twice, so the last one outlives the messages of an erased agent.
CREATE TABLE feeds (
    tenant BLOB NOT NULL PRIMARY KEY,
    last   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE subscribers (
    tenant BLOB NOT NULL,
    name   TEXT NOT NULL,
    cursor INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- What changes gave that clients sent under a key. answer is NULL while that is not known, and empty where the key is free
-- again.
CREATE TABLE answers (
    tenant  BLOB NOT NULL,
    key     BLOB NOT NULL,
    request BLOB NOT NULL,
    claim   BLOB NOT NULL,
    at      INTEGER NOT NULL,
    answer  BLOB,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_at ON answers (tenant, at);

-- Secrets. key of vault_keys is the tenant's, sealed with the instance's; key of secrets is the secret's own, sealed with
-- the tenant's; value is sealed with the secret's own. A version replaces the one before it, so its key is gone.
CREATE TABLE vault_keys (
    tenant BLOB NOT NULL PRIMARY KEY,
    key    BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    tenant     BLOB NOT NULL,
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    host       TEXT NOT NULL,
    placement  TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL,
    key        BLOB NOT NULL,
    value      BLOB NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- Budgets, what was used of each, and what is reserved for calls that are open. Enums are the small numbers of `column_codes.rs`.
-- most and amounts are tokens, millionths of the currency unit, milliseconds or calls, as the measure says.
CREATE TABLE budgets (
    tenant   BLOB NOT NULL,
    name     TEXT NOT NULL,
    per      INTEGER NOT NULL,
    about    TEXT,
    measure  INTEGER NOT NULL,
    period   INTEGER NOT NULL,
    most     INTEGER NOT NULL,
    declared INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- One row for a subject and its newest period: the first call of a period takes the rows of earlier ones away.
CREATE TABLE budget_used (
    tenant  BLOB NOT NULL,
    subject TEXT NOT NULL,
    budget  TEXT NOT NULL,
    begins  INTEGER NOT NULL,
    used    INTEGER NOT NULL,
    seal    BLOB NOT NULL,
    PRIMARY KEY (tenant, subject, budget, begins)
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_used_most ON budget_used (tenant, budget, begins, used);

-- A run has at most one open call.
CREATE TABLE budget_open (
    tenant  BLOB NOT NULL,
    run     BLOB NOT NULL,
    budget  TEXT NOT NULL,
    subject TEXT NOT NULL,
    begins  INTEGER NOT NULL,
    measure INTEGER NOT NULL,
    amount  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, run, budget)
) STRICT, WITHOUT ROWID;

-- The chain of seals of each tenant. kind 0: the heads of the journals that grew in one commit (run, whose it is,
-- first and last entry, chain of the last); kind 1: something that people changed, as JSON. chain
-- covers everything up to the row. Numbers begin with 1 and have no gap; of a tenant that was erased only the act
-- that ordered it, and what was sealed in its commit, stay.
CREATE TABLE audit (
    tenant BLOB NOT NULL,
    number INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    kind   INTEGER NOT NULL,
    record BLOB NOT NULL,
    chain  BLOB NOT NULL,
    PRIMARY KEY (tenant, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_acts ON audit (tenant, number) WHERE kind = 1;

-- The last seal of kind 1: it has nothing else that would miss it.
CREATE TABLE audit_heads (
    tenant BLOB NOT NULL PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The last signed checkpoint, which lies outside of this file: each knows of the other.
CREATE TABLE audit_mark (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT;

-- Calls that wait for a person, and rules that answer in one's place. A record is JSON, whose form goes with the number of
-- the schema; beside it are the columns by which rows are found. open is 1 for a call without an answer.
CREATE TABLE approvals (
    tenant     BLOB NOT NULL,
    approval   BLOB NOT NULL,
    agent      BLOB NOT NULL,
    open       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    record     TEXT NOT NULL,
    PRIMARY KEY (tenant, approval)
) STRICT;
CREATE INDEX approvals_agent ON approvals (tenant, agent, approval);
CREATE INDEX approvals_open ON approvals (tenant, approval) WHERE open = 1;

CREATE TABLE approval_rules (
    tenant     BLOB NOT NULL,
    name       TEXT NOT NULL,
    agent      BLOB,
    expires_at INTEGER NOT NULL,
    record     TEXT NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- Capabilities: signed rights of agents. used_as is the small number of `column_codes.rs`; rights are lines; a row that was taken
-- back stays, so that what was made from it counts no more.
CREATE TABLE capabilities (
    tenant     BLOB NOT NULL,
    capability BLOB NOT NULL,
    holder     BLOB NOT NULL,
    parent     BLOB,
    used_as    INTEGER NOT NULL,
    rights     TEXT NOT NULL,
    until      INTEGER,
    wall_ms    INTEGER,
    token      BLOB NOT NULL,
    author     TEXT NOT NULL,
    at         INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (tenant, capability)
) STRICT, WITHOUT ROWID;
CREATE INDEX capabilities_holder ON capabilities (tenant, holder);

-- What is known of the files of agents' workspaces: for a path and the BLAKE3 of a content, the label of what led to it and
-- whose input did. The row of the empty path has neither content nor author: its label is joined to that of every file of
-- which nothing is known.
CREATE TABLE file_labels (
    tenant  BLOB NOT NULL,
    agent   BLOB NOT NULL,
    path    TEXT NOT NULL,
    content BLOB,
    label   TEXT NOT NULL,
    author  TEXT,
    PRIMARY KEY (tenant, agent, path)
) STRICT, WITHOUT ROWID;

-- Sessions that no read shows, nor their runs and items: those that an import fills, and with an agent those that were
-- erased and have rows left. Of the latter the row of sessions and the head are gone already.
CREATE TABLE hidden_sessions (
    tenant       BLOB NOT NULL,
    session      BLOB NOT NULL,
    erased_agent BLOB,
    PRIMARY KEY (tenant, session)
) STRICT, WITHOUT ROWID;
CREATE INDEX hidden_erased ON hidden_sessions (tenant, erased_agent, session) WHERE erased_agent IS NOT NULL;

-- Sessions that are not erased, and who says so since when.
CREATE TABLE session_holds (
    tenant  BLOB NOT NULL,
    session BLOB NOT NULL,
    agent   BLOB NOT NULL,
    author  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, session)
) STRICT, WITHOUT ROWID;
