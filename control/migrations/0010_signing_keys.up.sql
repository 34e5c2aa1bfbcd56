-- Seed of the key that is to sign once it is rotated to, where there is one.
ALTER TABLE environment ADD COLUMN next_seed BYTEA;
-- The first revision that the key signs which signs now: texts from before are another key's.
ALTER TABLE environment ADD COLUMN key_since BIGINT NOT NULL DEFAULT 0;
-- The seed that the environment was made with, by which a backup tells that it is the same one.
ALTER TABLE environment ADD COLUMN origin BYTEA;
UPDATE environment SET origin = seed;
