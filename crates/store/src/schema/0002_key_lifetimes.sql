-- NULL for a key that stays as long as its item, which is what every key of the first schema does.
ALTER TABLE keys ADD COLUMN expires_at INTEGER;
CREATE INDEX keys_expiring ON keys (tenant, expires_at) WHERE expires_at IS NOT NULL;
