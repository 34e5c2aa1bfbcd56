-- The first revision that the log still has, at least 1: what is older may have been thrown away.
ALTER TABLE environment ADD COLUMN log_begins BIGINT NOT NULL DEFAULT 1;
