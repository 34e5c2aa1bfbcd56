ALTER TABLE environment DROP COLUMN mark;
