ALTER TABLE change DROP COLUMN metadata_after;
ALTER TABLE change DROP COLUMN metadata_before;
ALTER TABLE environment DROP COLUMN metadata;
