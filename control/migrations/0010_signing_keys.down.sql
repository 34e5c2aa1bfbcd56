ALTER TABLE environment DROP COLUMN origin;
ALTER TABLE environment DROP COLUMN key_since;
ALTER TABLE environment DROP COLUMN next_seed;
