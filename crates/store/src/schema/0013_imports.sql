-- Sessions that an import fills. Until its row is gone no read shows the session, nor its runs and items.
CREATE TABLE imports (
    tenant  BLOB NOT NULL,
    session BLOB NOT NULL,
    PRIMARY KEY (tenant, session)
) STRICT, WITHOUT ROWID;
