-- Capabilities: signed rights of agents. used_as is the small number of `code.rs`; rights are lines; a row that was taken
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
