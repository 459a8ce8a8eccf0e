-- Whose runs name a pin, so that an erasure takes those that nobody else names. What there was before is filled in from
-- the first entries of the journals, by `migrate/pins.rs`.
CREATE TABLE pin_refs (
    tenant BLOB NOT NULL,
    digest BLOB NOT NULL,
    agent  BLOB NOT NULL,
    PRIMARY KEY (tenant, digest, agent)
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_refs_agent ON pin_refs (tenant, agent, digest);
