-- The chain of seals of each tenant. kind 0: the heads of the journals that grew in one commit (run, whose it is,
-- first and last entry, chain of the last); kind 1: something that people changed, as JSON. chain
-- covers everything up to the row. Numbers begin with 1 and have no gap.
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

-- What was there before there were seals: chained, and in no seal.
CREATE TABLE audit_before (
    tenant  BLOB NOT NULL,
    run     BLOB NOT NULL,
    agent   BLOB NOT NULL,
    session BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    PRIMARY KEY (tenant, run)
) STRICT, WITHOUT ROWID;
INSERT INTO audit_before SELECT tenant, run, agent, session, last_seq FROM runs WHERE last_seq > 0;
