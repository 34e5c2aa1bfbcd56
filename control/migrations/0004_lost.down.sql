ALTER TABLE environment DROP COLUMN lost;
