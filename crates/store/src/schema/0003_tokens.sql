-- A token gets an id, scopes, an end and a revocation. One of before keeps working: it may do everything of its
-- tenant (bit 4, as it could), has no end, and its id sorts by the time at which it was made, like any other.
CREATE TABLE tokens_new (
    hash       BLOB NOT NULL PRIMARY KEY,
    tenant     BLOB NOT NULL,
    token      BLOB NOT NULL,
    name       TEXT NOT NULL,
    scopes     INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO tokens_new
    SELECT hash, tenant,
           unhex(printf('%012x', max(at, 0)) || '7' || substr(hex(randomblob(2)), 2)
                 || substr('89AB', 1 + abs(random() % 4), 1) || substr(hex(randomblob(8)), 2)),
           name, 4, at, NULL, NULL
    FROM tokens;
DROP TABLE tokens;
ALTER TABLE tokens_new RENAME TO tokens;
CREATE UNIQUE INDEX tokens_id ON tokens (tenant, token);
CREATE INDEX tokens_name ON tokens (tenant, name, token);
