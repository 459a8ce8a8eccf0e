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
