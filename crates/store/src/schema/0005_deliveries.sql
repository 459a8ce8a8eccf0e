-- Messages on their way out, what came of each attempt, and the tenant's feed of them. Enums are the small numbers of
-- `code.rs`: states 0 to 2 are open, 4 and 5 wait for a person. digest covers what never changes, body included.
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
