-- Rows that no journal tells of again get eight bytes over their other columns, by which damage is seen. write names the
-- write of a state entry, so that a repetition is known and two writers are never taken for one.
ALTER TABLE state ADD COLUMN write BLOB;
ALTER TABLE state ADD COLUMN seal BLOB;
ALTER TABLE keys ADD COLUMN seal BLOB;
ALTER TABLE delivery_attempts ADD COLUMN seal BLOB;
ALTER TABLE budget_used ADD COLUMN seal BLOB;
