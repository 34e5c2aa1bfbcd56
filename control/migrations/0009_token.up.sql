-- Counts its changes; being used is none.
ALTER TABLE token ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
