-- Calls that wait for a person, and rules that answer in one's place. A record is JSON, whose form goes with the number of
-- the schema; beside it stands what rows are found by. open is 1 for what nobody answered.
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
