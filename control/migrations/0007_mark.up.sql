-- Drawn at random for the revision that the environment is at: null until the next change draws one.
ALTER TABLE environment ADD COLUMN mark BIGINT;
