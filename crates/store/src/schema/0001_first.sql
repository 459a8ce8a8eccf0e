-- Tenant first in every key. Truth: tenants, tokens, agents, revisions, sessions, inbox, keys, claims, entries,
-- bodies, body_refs, pins, state. Projections, rebuilt by `rebuild_projections`: runs, session_heads.
-- Times are milliseconds, ids 16 bytes, digests 32; enums are the small numbers of `code.rs`.

CREATE TABLE tenants (
    tenant   BLOB NOT NULL PRIMARY KEY,
    handle   TEXT NOT NULL UNIQUE,
    at       INTEGER NOT NULL,
    body_key BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    hash   BLOB NOT NULL PRIMARY KEY,
    tenant BLOB NOT NULL,
    name   TEXT NOT NULL,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agents (
    tenant       BLOB NOT NULL,
    agent        BLOB NOT NULL,
    handle       TEXT NOT NULL,
    display_name TEXT NOT NULL,
    labels       TEXT,
    at           INTEGER NOT NULL,
    state        INTEGER NOT NULL,
    revision     BLOB NOT NULL,
    PRIMARY KEY (tenant, agent)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX agents_handle ON agents (tenant, handle);
-- Few agents do anything but run; those that do are found without a walk over all.
CREATE INDEX agents_resting ON agents (tenant, state, agent) WHERE state <> 0;

CREATE TABLE revisions (
    tenant BLOB NOT NULL,
    agent  BLOB NOT NULL,
    digest BLOB NOT NULL,
    config TEXT NOT NULL,
    PRIMARY KEY (tenant, agent, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    tenant   BLOB NOT NULL,
    agent    BLOB NOT NULL,
    session  BLOB NOT NULL,
    platform TEXT NOT NULL,
    channel  TEXT NOT NULL,
    actor    TEXT NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (tenant, agent, session)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sessions_key ON sessions (tenant, agent, platform, channel, actor);

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

-- key is a caller's text, or the item's own id as a blob where it had to wait and no text was sent.
CREATE TABLE keys (
    tenant   BLOB NOT NULL,
    key      ANY NOT NULL,
    item     BLOB NOT NULL,
    owner    BLOB NOT NULL,
    run      INTEGER NOT NULL,
    position INTEGER NOT NULL,
    request  BLOB,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

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
    signals_last  INTEGER NOT NULL,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;
CREATE INDEX runs_agent ON runs (tenant, agent, run);
-- Statuses 0, 1 and 2 are running, parked and held.
CREATE INDEX runs_open ON runs (tenant, run) WHERE status <= 2;

-- Epoch 1 is the claim that began the journal and has no row here.
CREATE TABLE claims (
    tenant BLOB NOT NULL,
    run    BLOB NOT NULL,
    epoch  INTEGER NOT NULL,
    holder BLOB NOT NULL,
    at     INTEGER NOT NULL,
    PRIMARY KEY (tenant, run, epoch)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE state (
    tenant  BLOB NOT NULL,
    session BLOB NOT NULL,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    value   BLOB NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (tenant, session, name)
) STRICT, WITHOUT ROWID;
