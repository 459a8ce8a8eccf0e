-- Budgets, what was used of each, and what is reserved for calls that are open. Enums are the small numbers of `code.rs`.
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
