-- How many flags hosts saw go by changes that were not deliberate.
ALTER TABLE environment ADD COLUMN lost BIGINT NOT NULL DEFAULT 0;
