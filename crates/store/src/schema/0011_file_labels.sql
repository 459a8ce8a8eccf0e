-- What is known of the files of agents' workspaces: for a path and the BLAKE3 of a content, the label of what led to it and
-- whose input did. The row of the empty path has neither content nor author: its label is joined to that of every file of
-- which nothing is known.
CREATE TABLE file_labels (
    tenant  BLOB NOT NULL,
    agent   BLOB NOT NULL,
    path    TEXT NOT NULL,
    content BLOB,
    label   TEXT NOT NULL,
    author  TEXT,
    PRIMARY KEY (tenant, agent, path)
) STRICT, WITHOUT ROWID;
