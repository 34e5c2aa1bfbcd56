-- Of the flag set: JSON, members of scalars.
ALTER TABLE environment ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';
-- Where a change made it something else.
ALTER TABLE change ADD COLUMN metadata_before TEXT;
ALTER TABLE change ADD COLUMN metadata_after TEXT;
